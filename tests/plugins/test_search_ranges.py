"""Ranges: positions and values belong together, and a range that is none is refused."""

import math

import pytest

from marginbench.errors import UserError
from marginbench.plugins.search_ranges import (
    Choice,
    LogUniform,
    Uniform,
    range_as_json,
    range_from_json,
)

RANGES = [
    (Uniform(-1.0, 3.0), None),
    (Uniform(0.5, 2.0, relative=True), 0.02),
    (LogUniform(1e-5, 1e-2), None),
    (LogUniform(0.1, 4.0, relative=True), 0.02),
]


@pytest.mark.parametrize(("drawn", "own"), RANGES)
def test_a_place_is_found_again(drawn, own):
    low, high = drawn.ends(own)
    assert (drawn.at(0.0, own), drawn.at(1.0, own)) == pytest.approx((low, high))
    for position in (0.1, 0.5, 0.93):
        value = drawn.at(position, own)
        assert low < value < high
        assert drawn.position(value, own) == pytest.approx(position, abs=1e-3)
        assert float(f"{value:.4g}") == value
    assert drawn.position("linear", own) is None


def test_the_logarithm_is_uniform():
    assert LogUniform(0.01, 1.0).at(0.5, None) == pytest.approx(0.1)
    assert LogUniform(0.1, 10.0, relative=True).at(0.5, 0.02) == pytest.approx(0.02)
    assert LogUniform(0.1, 1.0).position(0.0, None) is None


def test_every_choice_has_its_share():
    drawn = Choice((2, 3, 4))
    positions = [(k + 0.5) / 300 for k in range(300)]
    values = [drawn.at(position, None) for position in positions]
    assert [values.count(value) for value in (2, 3, 4)] == [100] * 3
    assert drawn.at(1.0, None) == 4
    assert [drawn.position(value, None) for value in (2, 3, 5)] == [1 / 6, 0.5, None]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Uniform(1.0, 1.0), r"Uniform\(1.0, 1.0\) is not allowed"),
        (lambda: Uniform(2, 1), r"Uniform\(2, 1\) is not allowed"),
        (lambda: Uniform(0.0, math.inf), "two finite numbers"),
        (lambda: Uniform("a", 1), "two finite numbers"),
        (lambda: LogUniform(0.0, 1.0), r"LogUniform\(0.0, 1.0\) is not allowed; allowed: ends"),
        (lambda: Choice((1,)), "two values or more"),
        (lambda: Choice("ab"), "two values or more"),
    ],
)
def test_a_range_that_is_none_is_refused(make, words):
    with pytest.raises(UserError, match=words):
        make()


@pytest.mark.parametrize("drawn", [RANGES[1][0], LogUniform(1, 2, needs="x"), Choice((1, 2))])
def test_json_brings_a_range_back(drawn):
    content = range_as_json(drawn)
    assert range_from_json(content) == drawn
    with pytest.raises(UserError, match="is no range"):
        range_from_json({**content, "kind": "Normal"})
