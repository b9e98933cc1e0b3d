"""Hyperspherical energy against a double loop over pairs, in float64."""

import math

import pytest
import torch

from marginbench.regularisers import LayerShape, build_regulariser, energy
from marginbench.regularisers.energy import hyperspherical_energy

POWERS = (0, 1, 2)
DISTANCES = ("euclidean", "angular")


def filters_of(count, dimension, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, dimension, generator=generator, dtype=torch.float64)


def loop_energy(filters, power, distance, half_space=False):
    """The definition, pair by pair, in Python's own numbers."""
    rows = [[float(x) for x in row] for row in filters if row.any()]
    unit = [[x / math.sqrt(sum(y * y for y in row)) for x in row] for row in rows]
    if half_space:
        unit += [[-x for x in row] for row in unit]
    total = 0.0
    for i, one in enumerate(unit):
        for j, other in enumerate(unit):
            if i == j:
                continue
            chord = math.sqrt(sum((a - b) ** 2 for a, b in zip(one, other, strict=True)))
            middle = math.sqrt(sum((a + b) ** 2 for a, b in zip(one, other, strict=True)))
            apart = chord if distance == "euclidean" else 2 * math.atan2(chord, middle)
            apart = max(apart, 0.01)
            total += math.log(1 / apart) if power == 0 else apart**-power
    return total / (len(unit) * (len(unit) - 1))


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("half_space", [False, True])
def test_the_energy_is_that_of_the_double_loop(power, distance, half_space):
    for count, dimension in ((7, 3), (3, 8)):
        filters = filters_of(count, dimension)
        found = hyperspherical_energy(
            filters, power=power, distance=distance, half_space=half_space
        )
        assert float(found) == pytest.approx(
            loop_energy(filters, power, distance, half_space), rel=1e-12
        )


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("half_space", [False, True])
def test_the_gradient_is_that_of_the_values(power, distance, half_space):
    filters = filters_of(4, 3).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda w: hyperspherical_energy(w, power=power, distance=distance, half_space=half_space),
        filters,
    )


@pytest.mark.parametrize("half_space", [False, True])
def test_in_parts_value_and_gradient_are_the_same(monkeypatch, half_space):
    filters = filters_of(11, 4).requires_grad_()
    whole = hyperspherical_energy(filters, half_space=half_space)
    (slope,) = torch.autograd.grad(whole, filters)
    monkeypatch.setattr(energy, "PAIRS_HELD", 50)
    parts = hyperspherical_energy(filters, half_space=half_space)
    (slope_of_parts,) = torch.autograd.grad(parts, filters)
    torch.testing.assert_close(parts, whole, rtol=1e-13, atol=0)
    torch.testing.assert_close(slope_of_parts, slope, rtol=1e-11, atol=1e-13)


def test_no_more_pairs_are_held_than_allowed(monkeypatch):
    monkeypatch.setattr(energy, "PAIRS_HELD", 64)
    seen = []
    real = energy.repulsion
    monkeypatch.setattr(
        energy, "repulsion", lambda c, *rest: seen.append(c.numel()) or real(c, *rest)
    )
    filters = filters_of(20, 4).requires_grad_()
    hyperspherical_energy(filters).backward()
    # Once forwards and once more backwards, never more at a time.
    assert sum(seen) == 2 * 20 * 20
    assert max(seen) <= 64


@pytest.mark.parametrize("power", POWERS)
def test_known_arrangements_have_their_energy(power):
    """Of three directions 120° apart each distance is √3; of ±e1, ±e2 they are √2 and 2."""
    triangle = torch.tensor([[0.0, 1.0], [-(3**0.5) / 2, -0.5], [3**0.5 / 2, -0.5]]).double()
    value = (lambda d: -math.log(d)) if power == 0 else (lambda d: d**-power)
    assert float(hyperspherical_energy(triangle, power=power)) == pytest.approx(value(3**0.5))
    cross = torch.eye(2).double()
    assert float(hyperspherical_energy(cross, power=power, half_space=True)) == pytest.approx(
        (2 * value(2**0.5) + value(2)) / 3
    )


def test_opposite_filters_are_alike_in_half_space():
    """Turned round, a filter is the same electron pair."""
    filters = filters_of(5, 3)
    turned = filters * torch.tensor([1, -1, 1, -1, -1])[:, None]
    one, other = (hyperspherical_energy(w, half_space=True) for w in (filters, turned))
    torch.testing.assert_close(one, other)
    assert float(hyperspherical_energy(filters)) != pytest.approx(
        float(hyperspherical_energy(turned))
    )


def test_zero_filters_are_left_out_and_equal_ones_count_as_a_hundredth_apart():
    filters = filters_of(5, 3)
    with_zeros = torch.cat([filters[:2], torch.zeros(2, 3).double(), filters[2:]])
    torch.testing.assert_close(hyperspherical_energy(with_zeros), hyperspherical_energy(filters))
    assert float(hyperspherical_energy(filters[:1].repeat(3, 1))) == pytest.approx(1e4)


@pytest.mark.parametrize(
    ("weight", "classifier_weight", "expected"),
    [(1, None, (1, 1)), (2, 0.5, (2, 0.5)), (3, 0, (3, 0))],
)
def test_hidden_layers_and_classifier_have_their_own_weight(weight, classifier_weight, expected):
    hidden, classes = filters_of(6, 4), filters_of(3, 5, seed=1)
    layers = [LayerShape("hidden", 6, 4), LayerShape("classifier", 3, 5, is_classifier=True)]
    mhe = build_regulariser(
        "mhe", layers, weight=weight, classifier_weight=classifier_weight, power=1
    )
    parts = [loop_energy(one, 1, "euclidean") for one in (hidden, classes)]
    assert float(mhe([hidden, classes])) == pytest.approx(
        sum(w * part for w, part in zip(expected, parts, strict=True))
    )


def test_descending_the_energy_spreads_the_filters():
    """Three filters in the plane end at 120°, the least energy there is."""
    filters = torch.tensor([[1.0, 0.0], [0.9, 0.3], [0.8, -0.4]]).double().requires_grad_()
    for _ in range(300):
        (slope,) = torch.autograd.grad(hyperspherical_energy(filters, power=1), filters)
        with torch.no_grad():
            filters -= slope
    found = float(hyperspherical_energy(filters.detach(), power=1))
    assert found == pytest.approx(3**-0.5, rel=1e-6)
