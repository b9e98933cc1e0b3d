"""AdaFace and CurricularFace: the running statistics, and the loss at given ones."""

import math
import statistics

import pytest
import torch

from tests.heads import head_oracles


def adaface_target(theta, q, m):
    """cos(θ − mq) − mq − m, the angle kept within [0, π]."""
    return math.cos(min(math.pi, max(0.0, theta - m * q))) - m * q - m


@pytest.mark.parametrize("training", [True, False])
def test_adaface_follows_its_formula_over_three_batches(training):
    m, h, momentum = 0.4, 0.333, 0.2
    head = head_oracles.double_head("adaface", s=10.0, momentum=momentum).train(training)
    mean, deviation = 20.0, 100.0
    seen = []
    for seed in range(3):
        features, labels = head_oracles.batch(n=30, seed=seed)
        features = features * torch.linspace(0.1, 40, 30, dtype=torch.float64)[:, None]
        norms = [min(100.0, max(0.001, norm)) for norm in head_oracles.norms(features)]
        if training:
            mean += momentum * (statistics.fmean(norms) - mean)
            deviation += momentum * (statistics.stdev(norms) - deviation)
        expected = []
        rows = head_oracles.cosines(features, head.weight)
        for row, label, norm in zip(rows, labels.tolist(), norms, strict=True):
            q = max(-1.0, min(1.0, h * (norm - mean) / (deviation + 0.001)))
            seen.append(q)
            logits = [10 * c for c in row]
            logits[label] = 10 * adaface_target(math.acos(row[label]), q, m)
            expected.append(head_oracles.cross_entropy(logits, label))
        found = head(features, labels).item()
        assert found == pytest.approx(math.fsum(expected) / len(expected), rel=1e-9)
    assert head.norm_mean.item() == pytest.approx(mean)
    assert head.norm_deviation.item() == pytest.approx(deviation)
    assert min(seen) < -0.05 < 0.05 < max(seen)


@pytest.mark.parametrize(
    ("q", "other", "parameters"),
    [
        (-1.0, "arcface", {"m": 0.4, "s": 10.0, "beyond": "none"}),
        (0.0, "am-softmax", {"m": 0.4, "s": 10.0}),
    ],
)
def test_adaface_is_arcface_at_low_norms_and_am_softmax_at_average_ones(q, other, parameters):
    head = head_oracles.double_head("adaface", s=10.0, h=1.0).eval()
    twin = head_oracles.double_head(other, **parameters)
    twin.load_state_dict({"weight": head.weight})
    features, labels = head_oracles.batch()
    features = 20 * features / features.norm(dim=1, keepdim=True)
    head.norm_mean.fill_(20 - 200 * q)
    inside = torch.tensor(
        [math.acos(row[y]) < math.pi - 0.4 for row, y in
         zip(head_oracles.cosines(features, head.weight), labels.tolist(), strict=True)]
    )  # fmt: skip
    features, labels = features[inside], labels[inside]
    assert head(features, labels).item() == pytest.approx(twin(features, labels).item())


@pytest.mark.parametrize("theta", [0.0, 0.1, 0.39, 0.41, 3.0, math.pi])
@pytest.mark.parametrize("q", [-1.0, 1.0])
def test_adaface_keeps_the_angle_within_its_range(q, theta):
    head = head_oracles.double_head("adaface", 2, 2, s=10.0, h=1.0).eval()
    head.norm_mean.fill_(20 - 200 * q)
    features = 20 * torch.tensor([[math.cos(theta), math.sin(theta)]], dtype=torch.float64)
    with torch.no_grad():
        head.weight.copy_(torch.eye(2))
    logits = [10 * adaface_target(theta, q, 0.4), 10 * math.sin(theta)]
    expected = head_oracles.cross_entropy(logits, 0)
    assert head(features, torch.tensor([0])).item() == pytest.approx(expected, rel=1e-7)


def test_adaface_gradient_takes_the_quality_for_a_constant():
    head = head_oracles.double_head("adaface", s=10.0).eval()
    features, labels = head_oracles.batch(n=8)
    features.requires_grad_()
    head(features, labels).backward()
    # Along the feature itself only the quality changes, and of that the gradient knows nothing.
    radial = (features.grad * features.detach()).sum(dim=1)
    assert radial.abs().max() < 1e-12
    assert features.grad.norm() > 1e-3


def test_adaface_gradient_across_the_feature_is_the_slope_of_the_loss():
    head = head_oracles.double_head("adaface", s=10.0).eval()
    features, labels = head_oracles.batch(n=8)
    leaf = features.clone().requires_grad_()
    head(leaf, labels).backward()
    shift = torch.randn_like(features)
    shift -= (
        (shift * features).sum(1, keepdim=True) / features.square().sum(1, keepdim=True) * features
    )
    step = 1e-6
    with torch.no_grad():
        slope = (head(features + step * shift, labels) - head(features - step * shift, labels)) / (
            2 * step
        )
    assert slope.item() == pytest.approx((leaf.grad * shift).sum().item(), rel=1e-6)


def test_a_batch_of_one_leaves_adafaces_deviation_alone():
    head = head_oracles.double_head("adaface").train()
    head(torch.ones(1, 6), torch.tensor([0])).backward()
    assert head.norm_deviation.item() == 100
    assert head.norm_mean.item() != 20


@pytest.mark.parametrize("beyond", ["linear", "mirror", "easy"])
@pytest.mark.parametrize("m", [0.5, 2.0])
@pytest.mark.parametrize("training", [True, False])
def test_curricularface_follows_the_authors_rule_over_three_batches(training, m, beyond):
    s, momentum = 8.0, 0.3
    head = head_oracles.double_head(
        "curricularface", m=m, s=s, momentum=momentum, beyond=beyond
    ).train(training)
    head.t.fill_(0.1)
    t, hard, told_apart = 0.1, 0, 0
    for seed in range(3):
        features, labels = head_oracles.batch(n=30, seed=seed)
        rows = head_oracles.cosines(features, head.weight)
        if training:
            t += momentum * (
                statistics.fmean(row[y] for row, y in zip(rows, labels.tolist(), strict=True)) - t
            )
        expected = []
        for row, label in zip(rows, labels.tolist(), strict=True):
            theta = math.acos(row[label])
            # What a class is compared with is cos(θ + m) itself, whatever continues it.
            limit, own = math.cos(theta + m), head_oracles.additive_psi(theta, m, beyond)
            logits = [s * (c * (t + c) if c > limit else c) for c in row]
            hard += sum(c > limit for c in row) - 1
            told_apart += sum((c > limit) != (c > own) for j, c in enumerate(row) if j != label)
            logits[label] = s * own
            expected.append(head_oracles.cross_entropy(logits, label))
        found = head(features, labels).item()
        assert found == pytest.approx(math.fsum(expected) / len(expected), rel=1e-9)
    assert head.t.item() == pytest.approx(t)
    assert 0 < hard < 3 * 30 * 4
    assert told_apart > 0 or m < 1


@pytest.mark.parametrize(
    ("name", "key"), [("adaface", "norm_mean"), ("curricularface", "t"), ("l-softmax", "lambda")]
)
def test_diagnostics_show_the_state_and_evaluation_leaves_it(name, key):
    parameters = {"lambda_base": 5.0} if name == "l-softmax" else {}
    head = head_oracles.double_head(name, **parameters)
    features, labels = head_oracles.batch()
    head.eval()(features, labels)
    before = head.diagnostics()[key].item()
    head(features, labels)
    assert head.diagnostics()[key].item() == before
    head.train()(features, labels)
    assert head.diagnostics()[key].item() != before
