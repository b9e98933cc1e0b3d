"""The energy of projected filters, against the double loop; and what the projections are."""

import itertools
import math

import pytest
import torch

from marginbench.regularisers import LayerShape, build_regulariser
from marginbench.regularisers.comhe import angle_change
from tests.regularisers.test_energy import filters_of, loop_energy


def built(filters, **parameters):
    layers = [LayerShape("layer", *filters.shape)]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_regulariser("comhe", layers, **parameters).double()


def inner(one, other):
    return sum(a * b for a, b in zip(one, other, strict=True))


def renewed(regulariser, filters, iteration, seed):
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(seed)
        regulariser.renew([filters], iteration)
    return regulariser.projection_0.clone()


@pytest.mark.parametrize("projection", ["random", "angle-preserving"])
@pytest.mark.parametrize("power", [0, 2])
def test_the_energy_is_that_of_the_double_loop(projection, power):
    filters = filters_of(6, 8)
    regulariser = built(filters, projection=projection, dimension=3, projections=4, power=power)
    count = 4 if projection == "random" else 1
    assert regulariser.projection_0.shape == (count, 3, 8)
    expected = [
        loop_energy(
            torch.tensor([[inner(p, w) for p in one] for w in filters.tolist()]),
            power,
            "euclidean",
        )
        for one in regulariser.projection_0.tolist()
    ]
    assert float(regulariser([filters])) == pytest.approx(sum(expected) / count, rel=1e-6)


@pytest.mark.parametrize("projection", ["random", "angle-preserving"])
def test_the_gradient_is_that_of_the_values(projection):
    filters = filters_of(4, 5).requires_grad_()
    regulariser = built(filters, projection=projection, dimension=3, projections=2)
    assert torch.autograd.gradcheck(lambda w: regulariser([w]), filters)


def test_random_projections_are_drawn_anew_as_often_as_it_says():
    filters = filters_of(4, 40)
    regulariser = built(filters, dimension=30, projections=5, renew_every=3)
    drawn = [renewed(regulariser, filters, iteration, seed=iteration) for iteration in range(6)]
    same = [torch.equal(*pair) for pair in itertools.pairwise(drawn)]
    assert same == [True, True, False, True, True]
    # 6,000 independent normal numbers: mean 0 and deviation 1 within five standard errors.
    assert abs(float(drawn[-1].mean())) < 5 / math.sqrt(6_000)
    assert abs(float(drawn[-1].std()) - 1) < 5 / math.sqrt(2 * 6_000)


def test_the_change_of_angles_is_that_of_the_double_loop():
    filters, projection = filters_of(5, 7), filters_of(2, 7, seed=2)

    def angle_between(one, other):
        return math.acos(inner(one, other) / math.hypot(*one) / math.hypot(*other))

    rows, projected = filters.tolist(), (filters @ projection.T).tolist()
    total = sum(
        (angle_between(rows[i], rows[j]) - angle_between(projected[i], projected[j])) ** 2
        for i in range(5)
        for j in range(5)
        if i != j
    )
    assert float(angle_change(filters, projection)) == pytest.approx(total / 20, rel=1e-10)


def test_the_angle_preserving_projection_goes_down_the_change_of_angles():
    """Filters in a plane of ten dimensions: a projection to two can keep every angle."""
    filters = filters_of(6, 2) @ torch.linalg.qr(filters_of(10, 2, seed=3)).Q.T
    regulariser = built(filters, projection="angle-preserving", dimension=2, inner_steps=5)
    before = float(angle_change(filters, regulariser.projection_0[0]))
    changes = [before]
    for iteration in range(80):
        projection = renewed(regulariser, filters, iteration, seed=0)
        changes.append(float(angle_change(filters, projection[0])))
    assert changes[1] < before
    assert changes[-1] < 1e-3 * before
