"""Every head of the cosine family against its formula, sample by sample, with acos and math."""

import math

import pytest
import torch

from tests.heads import head_oracles


def softmax_mean(features, labels, weight, target, other, scale):
    """The mean cross-entropy with z_y = scale·target(θ), z_j = scale·other(θ_j, z_y/scale)."""
    total = []
    rows = head_oracles.cosines(features, weight)
    for row, label, norm in zip(rows, labels.tolist(), head_oracles.norms(features), strict=True):
        own = target(math.acos(row[label]), norm)
        logits = [scale(norm) * other(c, own) for c in row]
        logits[label] = scale(norm) * own
        total.append(head_oracles.cross_entropy(logits, label))
    return math.fsum(total) / len(total)


def plain(cosine, own):
    return cosine


def fixed(s):
    return lambda norm: s


CASES = [
    ("normface", {"s": 9.0}, lambda t, n: math.cos(t), plain, fixed(9)),
    ("normface", {"s": 9.0, "learn_s": True}, lambda t, n: math.cos(t), plain, fixed(9)),
    ("weight-normalised-softmax", {}, lambda t, n: math.cos(t), plain, lambda n: n),
    ("am-softmax", {}, lambda t, n: math.cos(t) - 0.35, plain, fixed(30)),
    ("combined-margin", {}, lambda t, n: math.cos(t + 0.3) - 0.2
        if t + 0.3 < math.pi else -2.2 - math.cos(t + 0.3), plain, fixed(64)),
    ("combined-margin", {"m1": 2.5, "m2": 0.4, "m3": 0.1, "s": 7.0, "beyond": "none"},
        lambda t, n: math.cos(2.5 * t + 0.4) - 0.1, plain, fixed(7)),
    ("combined-margin", {"m1": 2.5, "m2": 0.4, "m3": 0.1, "s": 7.0, "beyond": "clamp"},
        lambda t, n: math.cos(min(2.5 * t + 0.4, math.pi)) - 0.1, plain, fixed(7)),
    ("combined-margin", {"m1": 1.0, "m2": 0.0, "m3": 0.4, "s": 30.0, "beyond": "easy"},
        lambda t, n: math.cos(t) - 0.4 if math.cos(t) > 0.4 else math.cos(t), plain, fixed(30)),
    ("combined-margin", {"m1": 1.0, "m2": 0.8, "m3": 0.0, "s": 30.0, "beyond": "easy"},
        lambda t, n: math.cos(t + 0.8) if math.cos(t) > 0 else math.cos(t), plain, fixed(30)),
    ("sphereface-r", {}, lambda t, n: math.cos(min(1.5 * t, math.pi)), plain, fixed(30)),
    ("sphereface-r", {"version": "v2", "m": 1.7}, lambda t, n: math.cos(t),
        lambda c, own: math.cos(math.acos(c) / 1.7), fixed(30)),
    ("sphereface-r", {"version": "v0", "m": 3.0},
        lambda t, n: head_oracles.multiplicative_psi(t, 3), plain, fixed(30)),
    ("sphereface-r", {"feature_norm": "none"}, lambda t, n: math.cos(min(1.5 * t, math.pi)),
        plain, lambda n: n),
    ("circle", {}, lambda t, n: max(0, 1.25 - math.cos(t)) * (math.cos(t) - 0.75),
        lambda c, own: max(0, c + 0.25) * (c - 0.25), fixed(256)),
    ("circle", {"grad": "exact"}, lambda t, n: max(0, 1.25 - math.cos(t)) * (math.cos(t) - 0.75),
        lambda c, own: max(0, c + 0.25) * (c - 0.25), fixed(256)),
]  # fmt: skip
CASES += [
    (
        "arcface",
        {"beyond": rule, "grad": grad, "m": 0.8},
        lambda t, n, rule=rule: head_oracles.additive_psi(t, 0.8, rule),
        plain,
        fixed(64),
    )
    for rule in ("linear", "mirror", "clamp", "none", "easy")
    for grad in ("exact", "detached")
]
CASES += [
    (name, {"m": m}, lambda t, n, m=m: head_oracles.multiplicative_psi(t, m), plain, scale)
    for name, scale in (("a-softmax", lambda n: n), ("sphereface-fnorm", fixed(30)))
    for m in range(1, 9)
]


@pytest.mark.parametrize(("name", "parameters", "target", "other", "scale"), CASES)
def test_loss_is_the_formula(name, parameters, target, other, scale):
    head = head_oracles.double_head(name, **parameters)
    features, labels = head_oracles.batch(n=60)
    expected = softmax_mean(features, labels, head.weight, target, other, scale)
    assert head(features, labels).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("name", "parameters", "target", "other", "scale"), CASES)
def test_loss_at_exact_angles_is_the_formula(name, parameters, target, other, scale):
    head = head_oracles.double_head(name, **parameters)
    with torch.no_grad():
        head.weight.copy_(torch.eye(5, 6))
    for theta in (
        0.0,
        math.pi / 4,
        math.pi / 3,
        math.pi / 2,
        2 * math.pi / 3,
        0.9 * math.pi,
        math.pi,
    ):
        sine = 0.0 if theta in (0.0, math.pi) else math.sin(theta)
        features = torch.zeros(1, 6, dtype=torch.float64)
        features[0, 0], features[0, 5] = 2 * math.cos(theta), 2 * sine
        labels = torch.tensor([0])
        expected = softmax_mean(features, labels, head.weight, target, other, scale)
        assert head(features, labels).item() == pytest.approx(expected, rel=1e-7, abs=1e-9)


@pytest.mark.parametrize("t", [1.0, 3.0])
@pytest.mark.parametrize("num_classes", [1, 2, 5])
@pytest.mark.parametrize("positive_weight", [0.3, 0.7])
def test_sphereface2_is_k_binary_losses(t, num_classes, positive_weight):
    s, m = 12.0, 0.4
    head = head_oracles.double_head(
        "sphereface2", 6, num_classes, s=s, m=m, t=t, positive_weight=positive_weight
    )
    features, labels = head_oracles.batch(k=num_classes)

    def g(c):
        return 2 * ((c + 1) / 2) ** t - 1

    b = head.bias.item()
    total = []
    for row, label in zip(
        head_oracles.cosines(features, head.weight), labels.tolist(), strict=True
    ):
        own = math.log1p(math.exp(-s * (g(row[label]) - m) - b))
        rest = [math.log1p(math.exp(s * (g(c) + m) + b)) for j, c in enumerate(row) if j != label]
        total.append((positive_weight * own + (1 - positive_weight) * math.fsum(rest)) / s)
    assert head(features, labels).item() == pytest.approx(math.fsum(total) / len(total), rel=1e-6)


@pytest.mark.parametrize("num_classes", [1, 2, 4, 10, 1000, 85_742])
@pytest.mark.parametrize("s", [1.0, 40.0, 64.0])
def test_sphereface2_starts_with_both_sides_in_balance(num_classes, s):
    from marginbench.heads import build_head

    head = build_head("sphereface2", 1, num_classes, s=s)
    middle, b = 2 * 0.5**3 - 1, head.balancing_bias()

    def log_sigmoid(z):
        return -math.log1p(math.exp(-z)) if z > 0 else z - math.log1p(math.exp(z))

    assert math.isfinite(b)
    own = math.log(0.7) + log_sigmoid(-(s * (middle - 0.4) + b))
    if num_classes > 1:
        others = math.log(0.3 * (num_classes - 1)) + log_sigmoid(s * (middle + 0.4) + b)
        assert own == pytest.approx(others, abs=1e-6)


@pytest.mark.parametrize("beyond", ["linear", "easy"])
def test_magface_has_a_margin_and_a_reward_for_each_norm(beyond):
    head = head_oracles.double_head("magface", beyond=beyond)
    features, labels = head_oracles.batch(n=40)
    features = features * torch.linspace(0.5, 60, 40, dtype=torch.float64)[:, None]
    norms = head_oracles.norms(features)
    clamped = [min(110.0, max(10.0, norm)) for norm in norms]
    assert min(norms) < 10 < 110 < max(norms)
    assert any(10 < norm < 110 for norm in norms)

    def target(theta, norm):
        a = min(110.0, max(10.0, norm))
        return head_oracles.additive_psi(theta, (0.8 - 0.45) / 100 * (a - 10) + 0.45, beyond)

    expected = softmax_mean(features, labels, head.weight, target, plain, fixed(64))
    expected += 35 * math.fsum(a / 110**2 + 1 / a for a in clamped) / len(clamped)
    assert head(features, labels).item() == pytest.approx(expected, rel=1e-9)


def test_subcenter_arcface_takes_the_nearest_centre():
    head = head_oracles.double_head("subcenter-arcface", subcenters=3)
    features, labels = head_oracles.batch(n=40)
    centres = head.weight.detach().reshape(15, 6)
    expected = []
    for row, label in zip(head_oracles.cosines(features, centres), labels.tolist(), strict=True):
        nearest = [max(row[3 * j : 3 * j + 3]) for j in range(5)]
        logits = [64 * c for c in nearest]
        logits[label] = 64 * head_oracles.additive_psi(math.acos(nearest[label]), 0.5, "linear")
        expected.append(head_oracles.cross_entropy(logits, label))
    assert head(features, labels).item() == pytest.approx(math.fsum(expected) / 40, rel=1e-9)


@pytest.mark.parametrize("bias", [True, False])
def test_l2_softmax_is_softmax_of_features_of_length_alpha(bias):
    head = head_oracles.double_head("l2-softmax", alpha=7.0, bias=bias)
    if bias:
        torch.nn.init.normal_(head.bias)
    features, labels = head_oracles.batch()
    expected = []
    for x, label in zip(features.tolist(), labels.tolist(), strict=True):
        length = math.sqrt(math.fsum(v * v for v in x))
        logits = [
            math.fsum(w * 7 * v / length for w, v in zip(row, x, strict=True))
            for row in head.weight.tolist()
        ]
        if bias:
            logits = [z + b for z, b in zip(logits, head.bias.tolist(), strict=True)]
        expected.append(head_oracles.cross_entropy(logits, label))
    assert head(features, labels).item() == pytest.approx(math.fsum(expected) / len(expected))


def test_weighted_softmax_weighs_each_sample_by_its_class():
    weights = (0.0, 0.5, 1.0, 2.0, 7.0)
    head = head_oracles.double_head("weighted-softmax", class_weights=weights)
    features, labels = head_oracles.batch()
    expected = [
        weights[label] * head_oracles.cross_entropy((head.weight.detach() @ x).tolist(), label)
        for x, label in zip(features, labels.tolist(), strict=True)
    ]
    assert head(features, labels).item() == pytest.approx(math.fsum(expected) / len(expected))
