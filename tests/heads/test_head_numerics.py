"""Precision, monotonicity in the margin, gradient choices, and CUDA."""

import copy

import pytest
import torch

from marginbench.heads import build_head, head_names
from marginbench.testing import head_checks
from tests.heads import head_oracles

SMOOTH = [
    ("softmax", {"bias": True}),
    ("weighted-softmax", {"class_weights": (0.5, 1.0, 2.0)}),
    ("weight-normalised-softmax", {}),
    ("normface", {"learn_s": True, "s": 5.0}),
    ("l2-softmax", {"learn_alpha": True}),
    ("am-softmax", {"s": 8.0}),
    ("arcface", {"s": 8.0, "m": 0.3}),
    ("combined-margin", {"s": 8.0, "m1": 1.3}),
    ("subcenter-arcface", {"s": 8.0}),
    ("sphereface-r", {"s": 8.0, "grad": "exact"}),
    ("sphereface-r", {"s": 8.0, "grad": "exact", "version": "v2"}),
    ("sphereface2", {"s": 8.0, "grad": "exact"}),
    ("circle", {"s": 8.0, "grad": "exact"}),
    ("curricularface", {"s": 8.0}),
    ("magface", {"s": 8.0, "l_a": 0.1, "u_a": 9.0}),
    ("contrastive", {"weight": 1.0}),
    ("triplet", {"mining": "all"}),
    ("triplet", {"mining": "semi-hard"}),
    ("triplet", {"mining": "hard"}),
    ("triplet", {"mining": "all", "distance": "euclidean", "soft_margin": True}),
    ("hinge", {"norm": "L2"}),
]
SMOOTH += [("l-softmax", {"m": m}) for m in range(1, 9)]
SMOOTH += [("a-softmax", {"m": m, "lambda_base": 2.0}) for m in (1, 2, 4)]
SMOOTH += [("sphereface-fnorm", {"m": 3, "s": 8.0})]


@pytest.mark.parametrize(("name", "parameters"), SMOOTH)
def test_gradcheck(name, parameters):
    head = head_oracles.double_head(name, 3, 3, **parameters).eval()
    features, labels = head_oracles.batch(n=6, d=3, k=3, scale=1.5)
    names = [key for key, _ in head.named_parameters()]

    def loss(x, *values):
        return torch.func.functional_call(head, dict(zip(names, values, strict=True)), (x, labels))

    inputs = [t.detach().requires_grad_() for t in (features, *head.parameters())]
    assert torch.autograd.gradcheck(loss, inputs)


RISING = [
    ("l-softmax", "m", range(1, 9), {}),
    ("a-softmax", "m", range(1, 9), {}),
    ("sphereface-fnorm", "m", range(1, 9), {}),
    ("am-softmax", "m", [0.0, 0.1, 0.5, 1.0], {}),
    ("arcface", "m", [0.0, 0.1, 0.5, 1.0, 1.5], {"beyond": "linear"}),
    ("arcface", "m", [0.0, 0.1, 0.5, 1.0, 1.5], {"beyond": "mirror"}),
    ("arcface", "m", [0.0, 0.1, 0.5, 1.0, 1.5], {"beyond": "clamp"}),
    ("subcenter-arcface", "m", [0.0, 0.1, 0.5, 1.0], {}),
    ("combined-margin", "m1", [1.0, 1.2, 2.0, 3.5], {}),
    ("combined-margin", "m2", [0.0, 0.3, 1.0], {}),
    ("combined-margin", "m3", [0.0, 0.2, 1.0], {}),
    ("sphereface-r", "m", [1.0, 1.5, 2.5], {}),
    ("sphereface-r", "m", [1.0, 1.5, 2.5], {"version": "v2"}),
    ("sphereface-r", "m", [1.0, 1.5, 2.5], {"version": "v0"}),
    ("sphereface2", "m", [0.0, 0.2, 0.4], {}),
    ("adaface", "m", [0.0, 0.2, 0.4, 1.0], {}),
    ("magface", "u_m", [0.45, 0.8, 1.2], {"l_a": 0.1, "u_a": 9.0}),
    ("contrastive", "margin", [4.0, 6.0, 9.0], {}),
    ("triplet", "margin", [0.1, 0.2, 1.0], {}),
]


@pytest.mark.parametrize(("name", "margin", "values", "others"), RISING)
def test_the_loss_of_no_sample_falls_when_the_margin_rises(name, margin, values, others):
    # Not so for Circle loss, whose m relaxes, and CurricularFace, whose hard classes may relent.
    features, labels = head_oracles.batch(n=40)
    pairs = name in ("contrastive", "triplet")
    batches = [slice(None)] if pairs else [slice(i, i + 1) for i in range(40)]
    earlier = None
    for value in values:
        head = head_oracles.double_head(name, **{margin: value}, **others).eval()
        if name == "sphereface2":
            torch.nn.init.zeros_(head.bias)  # its start depends on m
        with torch.no_grad():
            losses = torch.stack([head(features[b], labels[b]) for b in batches])
        if earlier is not None:
            assert (losses >= earlier - 1e-12).all()
            assert (losses > earlier).any()
        earlier = losses


@pytest.mark.parametrize("name", head_names())
def test_float32_is_close_to_float64(name):
    features, labels = head_oracles.batch(n=40)
    double = head_oracles.double_head(name)
    single = copy.deepcopy(double).float()
    rounded = features.float().double()
    expected = double(rounded, labels).item()
    assert single(features.float(), labels).item() == pytest.approx(expected, rel=2e-5)


@pytest.mark.parametrize("name", ["arcface", "combined-margin", "subcenter-arcface", "magface"])
def test_detached_has_the_same_loss_and_the_slope_of_no_margin(name):
    features, labels = head_oracles.batch(n=20)
    exact = head_oracles.double_head(name)
    detached = head_oracles.double_head(name, grad="detached")
    one, other = features.clone().requires_grad_(), features.clone().requires_grad_()
    exact_loss, detached_loss = exact(one, labels), detached(other, labels)
    assert exact_loss.item() == pytest.approx(detached_loss.item(), rel=1e-12)
    exact_loss.backward()
    detached_loss.backward()
    assert not torch.allclose(one.grad, other.grad, rtol=0.01)
    # dz_y/dc is s in the detached case: the gradient is that of s·c plus a constant.
    norms, cosine = detached.norms_and_cosines(features)
    own = cosine.gather(1, labels[:, None])
    own = own.detach().requires_grad_()
    target = detached.with_chosen_gradient(own, detached.target(own, norms))
    (slope,) = torch.autograd.grad(target.sum(), own)
    assert torch.equal(slope, torch.ones_like(slope))


def test_the_exact_factor_of_arcface():
    # dψ/dc = sin(θ + m)/sin θ: 48.8 at θ = 0.01 and m = 0.5.
    head = head_oracles.double_head("arcface")
    cosine = torch.tensor(0.01, dtype=torch.float64).cos().requires_grad_()
    (slope,) = torch.autograd.grad(head.psi(cosine), cosine)
    assert slope.item() == pytest.approx(48.8, abs=0.05)


@pytest.mark.parametrize("name", head_names())
def test_no_value_is_read_back_from_the_device(name):
    # A tensor on the device "meta" has no values: whatever would wait for one raises an error.
    head = build_head(name, 6, 5).to("meta").train()
    features = torch.empty(10, 6, device="meta", requires_grad=True)
    # loss and scores, and not forward and logits: autocast knows no "meta".
    head.loss(features, torch.empty(10, dtype=torch.int64, device="meta")).backward()
    assert head.scores(features).shape == (10, 5)
    assert features.grad.shape == (10, 6)


CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")


@CUDA
@pytest.mark.parametrize("name", head_names())
def test_the_kit_on_cuda(name):
    for check in head_checks(name, device="cuda"):
        check()


@CUDA
@pytest.mark.parametrize("name", head_names())
def test_cuda_gives_the_loss_of_the_cpu(name):
    torch.manual_seed(0)
    head = build_head(name, 6, 5)
    features, labels = head_oracles.batch()
    expected = head(features.float(), labels).item()
    found = copy.deepcopy(head).cuda()(features.float().cuda(), labels.cuda()).item()
    assert found == pytest.approx(expected, rel=1e-4)
