"""The loss over chunks of classes: that of the formula, its gradients, and what it holds."""

import math

import pytest
import torch

from benchmarks.allocations import Allocations
from marginbench.errors import UserError
from marginbench.heads import (
    CosineHead,
    build_head,
    head_class,
    head_names,
    many_classes,
    register_head,
)
from marginbench.heads.many_classes import CHUNKED_FROM
from marginbench.testing import head_checks
from tests.heads import head_oracles
from tests.heads.test_cosine_oracles import CASES, softmax_mean

IN_CHUNKS = [name for name in head_names() if head_class(name).softmax_over_classes]
VARIANTS = [(name, {}) for name in IN_CHUNKS] + [
    ("softmax", {"bias": True}),
    ("l2-softmax", {"learn_alpha": True, "bias": False}),
    ("weighted-softmax", {"class_weights": (0.0, 0.5, 1.0, 2.0, 7.0)}),
    ("normface", {"learn_s": True}),
    ("l-softmax", {"m": 4, "lambda_base": 5.0}),
    ("a-softmax", {"lambda_base": 5.0}),
    ("sphereface-fnorm", {"lambda_base": 5.0}),
    ("sphereface-r", {"version": "v2", "grad": "exact"}),
    ("sphereface-r", {"version": "v2"}),
    ("sphereface-r", {"feature_norm": "none", "grad": "exact"}),
    ("circle", {"grad": "exact"}),
    *((name, {"grad": "detached"}) for name in IN_CHUNKS if name.endswith("face")
        and name != "normface"),
]  # fmt: skip


def run(name, dtype=torch.float64, features=None, labels=None, classes=5, factor=1.0, **parameters):
    """The loss, the gradients by name and the state afterwards, of a batch in training mode."""
    torch.manual_seed(0)
    head = build_head(name, 6, classes, **parameters).to(dtype)
    if features is None:
        features, labels = head_oracles.batch(n=23, k=classes, scale=3.0)
    features = features.clone().requires_grad_()
    loss = head(features, labels)
    (factor * loss).backward()
    gradients = {n: p.grad for n, p in head.named_parameters()} | {"features": features.grad}
    return loss.detach(), gradients, dict(head.named_buffers())


def assert_same(found, expected, tolerance):
    torch.testing.assert_close(found[0].double(), expected[0].double(), rtol=tolerance, atol=0)
    for part in (1, 2):
        assert found[part].keys() == expected[part].keys()
        for name, tensor in expected[part].items():
            size = max(float(tensor.abs().max()), 1e-6)
            difference = float((found[part][name].double() - tensor.double()).abs().max())
            assert difference <= tolerance * size, name


@pytest.mark.parametrize(("name", "parameters", "target", "other", "scale"), CASES)
def test_the_loss_in_chunks_is_the_formula(name, parameters, target, other, scale):
    head = head_oracles.double_head(name, **parameters, chunk=2)
    features, labels = head_oracles.batch(n=20)
    expected = softmax_mean(features, labels, head.weight, target, other, scale)
    assert head(features, labels).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("chunk", [2, 9])
@pytest.mark.parametrize(("name", "parameters"), VARIANTS)
def test_loss_gradients_and_state_are_those_of_all_classes_at_once(name, parameters, chunk):
    expected = run(name, **parameters, chunk=0, factor=1.5)
    assert_same(run(name, **parameters, chunk=chunk, factor=1.5), expected, 1e-12)


@pytest.mark.parametrize(("name", "parameters"), VARIANTS)
def test_float32_in_chunks_is_exact_up_to_its_rounding(name, parameters):
    expected = run(name, **parameters, chunk=0)
    assert_same(run(name, torch.float32, **parameters, chunk=2), expected, 1e-5)


@pytest.mark.parametrize("name", IN_CHUNKS)
def test_edges(name):
    batch, labels = head_oracles.batch(n=4, k=3)
    cases = {
        "one sample": (batch[:1], labels[:1], 5),
        "one class": (batch, 0 * labels, 1),
        "one label": (batch, 0 * labels, 5),
        "zero features": (0 * batch, labels, 5),
        "bfloat16": (batch.bfloat16(), labels, 5),
    }
    for what, (features, own, classes) in cases.items():
        given = {"features": features, "labels": own, "classes": classes}
        expected = run(name, **given, chunk=0)
        tolerance = 1e-2 if what == "bfloat16" else 1e-12
        assert expected[0].isfinite()
        assert_same(run(name, **given, chunk=2), expected, tolerance)


@pytest.mark.parametrize("name", ["l-softmax", "subcenter-arcface"])
@pytest.mark.parametrize("check", ["gradients", "edges", "half precision"])
def test_the_kit_finds_no_fault_in_chunks(name, check):
    next(c for c in head_checks(name, chunk=4) if c.name == check)()


@pytest.mark.parametrize("name", IN_CHUNKS)
def test_neither_logits_nor_a_second_classifier_are_held(name):
    samples, features, classes = 64, 8, 2**14
    chunk = 128 // 3 if name == "subcenter-arcface" else 128
    head = build_head(name, features, classes, chunk=chunk)
    batch = torch.randn(samples, features, requires_grad=True)
    labels = torch.arange(samples)
    own = head.weight.nbytes
    with Allocations() as made:
        head(batch, labels).backward()
    logits = samples * classes * 4
    assert made.peak - own < 0.1 * logits
    assert sum(size >= own for size in made.sizes) == 1, "the gradient alone is that large"
    assert head.weight.grad.untyped_storage().nbytes() == own


def test_what_is_counted_is_what_is_made():
    with Allocations() as made:
        one = torch.zeros(100)
        other = one + 1
        del one
        other.add_(1).view(10, 10)
        torch.zeros(50)
    assert (made.live, made.peak) == (400, 800)
    assert made.sizes == [400, 400, 200]


@pytest.mark.parametrize("name", ["arcface", "softmax"])
def test_chosen_by_size(name):
    samples, features = 64, 2
    classes = CHUNKED_FROM // 4 // samples
    sizes = {}
    for count in (classes - 1, classes):
        head = build_head(name, features, count)
        with torch.no_grad(), Allocations() as made:
            head(torch.randn(samples, features), torch.arange(samples))
        sizes[count] = max(made.sizes)
    assert sizes[classes - 1] == samples * (classes - 1) * 4
    assert sizes[classes] < samples * classes


@pytest.mark.parametrize("name", ["softmax", "l-softmax", "arcface", "circle"])
def test_kept_logits_are_a_part_and_change_nothing(name, monkeypatch):
    monkeypatch.setattr(many_classes, "CHUNKED_FROM", 1)
    monkeypatch.setattr(many_classes, "CHUNK_ON_CPU", 2)
    expected = run(name, classes=11, chunk=0)
    found = []
    for kept in (0, 23 * 2 * 8, 2 * 23 * 2 * 8, 2**20):
        monkeypatch.setattr(many_classes, "KEPT", kept)
        found.append(run(name, classes=11))
        assert_same(found[-1], expected, 1e-12)
    samples, classes = 64, 2**14
    monkeypatch.setattr(many_classes, "CHUNK_ON_CPU", 128)
    peaks = {}
    for kept in (0, 2**20, 2**30):
        monkeypatch.setattr(many_classes, "KEPT", kept)
        head = build_head(name, 8, classes)
        with Allocations() as made:
            head(torch.randn(samples, 8), torch.arange(samples)).backward()
        peaks[kept] = made.peak - head.weight.nbytes
    more = 0 if name == "circle" else 1
    rounding = samples * 128 * 4
    assert peaks[2**20] == pytest.approx(peaks[0] + more * 2**20, abs=rounding)
    assert peaks[2**30] == pytest.approx(peaks[0] + more * samples * classes * 2, abs=rounding)
    # Of a million classes few are kept, whatever the batch.
    monkeypatch.setattr(many_classes, "KEPT_CLASSES", 1024)
    with Allocations() as made:
        head(torch.randn(samples, 8), torch.arange(samples)).backward()
    of_classes = made.peak - head.weight.nbytes
    assert of_classes == pytest.approx(peaks[0] + more * samples * 1024 * 4, abs=rounding)


def test_without_gradient_none_is_made():
    head = build_head("arcface", 4, 1000, chunk=100)
    with torch.no_grad(), Allocations() as made:
        head(torch.randn(8, 4), torch.arange(8))
    assert max(made.sizes) < head.weight.nbytes


def test_the_gradient_can_be_taken_once():
    head = build_head("arcface", 4, 10, chunk=3)
    loss = head(torch.randn(8, 4), torch.arange(8))
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="taken once"):
        loss.backward()


def test_class_weights_of_any_length_have_a_direction():
    weight = torch.randn(7, 6)
    for length in (1e-30, 1e-12, 1e12, 1e30):
        heads = [build_head("normface", 6, 7, s=10.0, chunk=chunk) for chunk in (0, 3)]
        losses = []
        for head in heads:
            with torch.no_grad():
                head.weight.copy_(weight * length)
            loss = head(torch.ones(4, 6).cumsum(0) + torch.arange(6), torch.arange(4))
            loss.backward()
            losses.append(loss.item())
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)
        grads = [head.weight.grad * length for head in heads]
        torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-6)


class Reshaped(CosineHead):
    """A stranger's: a margin and a slope that are learnt, in ψ and in the other classes."""

    formula = "z_y = s(cos θ_y − m),  z_j = s(cos θ_j + a·cos² θ_j·cos θ_y)"

    def __init__(self, in_features: int, num_classes: int, *, s: float = 5.0) -> None:
        super().__init__(in_features, num_classes, s=s)
        self.margin = torch.nn.Parameter(torch.tensor(0.3))
        self.slope = torch.nn.Parameter(torch.tensor(0.2))

    def psi(self, cosine):
        return cosine - self.margin

    def others(self, cosine, own):
        return cosine + self.slope * cosine.square() * own


class OwnLogits(CosineHead):
    """Another's, that makes its logits by itself."""

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__(in_features, num_classes, s=5.0)

    def psi(self, cosine):
        return cosine

    def training_logits(self, norms, cosine, labels):
        return super().training_logits(norms, cosine, labels) + 1


@pytest.fixture(scope="module")
def strangers():
    register_head("reshaped-stranger")(Reshaped)
    register_head("own-logits-stranger")(OwnLogits)


def test_a_strangers_head_gets_chunks_and_gradients_of_its_own_parameters(strangers):
    expected = run("reshaped-stranger", chunk=0)
    assert {"margin", "slope"} < expected[1].keys()
    assert all(gradient.abs().max() > 1e-4 for gradient in expected[1].values())
    assert_same(run("reshaped-stranger", chunk=2), expected, 1e-12)


@pytest.mark.parametrize("name", ["own-logits-stranger", "hinge", "sphereface2"])
def test_a_head_that_holds_all_logits_has_no_chunks(strangers, name):
    with pytest.raises(UserError, match="has no parameter 'chunk'"):
        build_head(name, 6, 5, chunk=2)
    assert math.isfinite(run(name)[0])


def test_chunk_is_checked():
    with pytest.raises(UserError, match="chunk = -1 is not allowed"):
        build_head("arcface", 6, 5, chunk=-1)
