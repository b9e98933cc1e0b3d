"""What each head searches: declared, allowed, and bounded by the number of classes."""

import math

import pytest
import torch

from marginbench.heads import head_class, resolve_head_parameters
from marginbench.heads.search_spaces import (
    angular_margin_range,
    cosine_margin_range,
    least_scale,
    scale_range,
)
from marginbench.plugins.search_ranges import Choice, Range
from tests.conftest import built_in_heads


@pytest.mark.parametrize("name", built_in_heads())
def test_every_head_declares_what_is_searched_and_may_have_every_end_of_it(name):
    for classes in (2, 10, 10_000):
        space = head_class(name).search_space(classes)
        assert space is not None
        defaults = {"class_weights": None} if name == "weighted-softmax" else {}
        for low in (True, False):
            values = {}
            for parameter, drawn in space.items():
                assert isinstance(drawn, Range)
                own = 1.0
                ends = drawn.values if isinstance(drawn, Choice) else drawn.ends(own)
                values[parameter] = ends[0] if low else ends[-1]
            resolve_head_parameters(name, {**defaults, **values})
            head_class(name)(4, classes, **resolve_head_parameters(name, {**defaults, **values}))


def test_rates_an_iteration_are_parameters_of_their_head():
    annealed = [name for name in built_in_heads() if head_class(name).per_iteration]
    assert annealed == ["a-softmax", "l-softmax", "sphereface-fnorm"]
    for name in annealed:
        assert set(head_class(name).per_iteration) <= set(resolve_head_parameters(name, {}))


@pytest.mark.parametrize("classes", [2, 10, 1000])
@pytest.mark.parametrize("probability", [0.9, 0.999])
def test_the_least_scale_reaches_its_probability(classes, probability):
    """Class centres as far apart as can be have cosines of −1/(K − 1) to one another."""
    cosines = torch.full((classes,), -1 / (classes - 1), dtype=torch.float64)
    cosines[0] = 1.0
    scale = least_scale(classes, probability)
    assert torch.softmax(scale * cosines, 0)[0].item() == pytest.approx(probability)
    low, high = scale_range(classes).ends(None)
    assert low == pytest.approx(least_scale(classes, 0.9), rel=0.01)
    assert high > least_scale(classes, 0.999)


def test_margins_stay_within_what_the_classes_leave_room_for():
    for classes in (2, 10, 1000):
        apart = -1 / (classes - 1)
        assert cosine_margin_range(classes).high == pytest.approx((1 - apart) / 2, rel=0.01)
        assert angular_margin_range(classes).high == pytest.approx(math.acos(apart) / 2, rel=0.01)
    assert angular_margin_range(2).high > angular_margin_range(10).high
