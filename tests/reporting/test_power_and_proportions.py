"""Power, intervals of shares and McNemar's test, against scipy, closed forms and draws."""

import math

import numpy as np
import pytest
from scipy import stats

from marginbench.reporting.power import (
    power_of_difference,
    power_of_equality,
    seeds_for_difference,
    seeds_for_equality,
)
from marginbench.reporting.proportions import chance_of_winning, mcnemar, wilson_interval


@pytest.mark.parametrize(("effect", "seeds"), [(0.5, 59), (1, 18), (1.5, 11), (2, 8), (3, 7)])
def test_the_seeds_of_holms_first_step_over_eleven_heads(effect, seeds):
    """The table of the reference notes, and that one seed fewer does not do."""
    level = 0.05 / 11
    assert seeds_for_difference(effect, level) == pytest.approx(seeds, abs=1)
    needed = int(seeds_for_difference(effect, level))
    assert power_of_difference(effect, needed, level) >= 0.8
    assert power_of_difference(effect, needed - 1, level) < 0.8


def test_the_power_is_the_share_of_tests_that_find_the_difference():
    random = np.random.default_rng(0)
    drawn = random.normal(0.9, 1, size=(20_000, 8))
    found = stats.ttest_1samp(drawn, 0, axis=1).pvalue < 0.02
    assert power_of_difference(0.9, 8, 0.02) == pytest.approx(found.mean(), abs=0.012)


@pytest.mark.parametrize(("effect", "seeds"), [(0.1, 2), (0.7, 5), (1.2, 12), (0.2, 200)])
def test_the_power_is_scipys_noncentral_t(effect, seeds):
    critical, shift = stats.t.isf(0.01, seeds - 1), effect * math.sqrt(seeds)
    known = stats.nct.sf(critical, seeds - 1, shift) + stats.nct.cdf(-critical, seeds - 1, shift)
    assert power_of_difference(effect, seeds, 0.02) == pytest.approx(known, abs=1e-4)


def test_an_effect_beyond_all_bounds_needs_two_or_three_seeds():
    """Where scipy's noncentral t is NaN."""
    needed = [seeds_for_difference(effect, 0.05 / 11) for effect in (2, 5, 30, 1e3, 1e9)]
    assert needed == sorted(needed, reverse=True)
    assert needed[-1] == 2


def test_the_power_without_a_difference_is_the_level():
    assert power_of_difference(0.0, 6, 0.03) == pytest.approx(0.03, rel=1e-3)
    assert seeds_for_difference(0.0) == math.inf
    assert seeds_for_difference(float("nan")) == math.inf


def test_the_power_of_equality_is_the_share_of_intervals_inside():
    random = np.random.default_rng(1)
    drawn = random.normal(0.2, 1, size=(20_000, 30))
    low, high = stats.ttest_1samp(drawn, 0, axis=1).confidence_interval(0.95)
    inside = ((low > -0.8) & (high < 0.8)).mean()
    assert power_of_equality(0.2, 1, 0.8, 30, 0.05) == pytest.approx(inside, abs=0.012)


def test_the_seeds_of_equality():
    needed = int(seeds_for_equality(0.1, 1, 0.8))
    assert power_of_equality(0.1, 1, 0.8, needed) >= 0.8
    assert power_of_equality(0.1, 1, 0.8, needed - 1) < 0.8
    assert seeds_for_equality(0.9, 1, 0.8) == math.inf


@pytest.mark.parametrize(("wrong", "count"), [(0, 50), (3, 50), (50, 50), (17, 1000)])
def test_wilsons_interval_is_scipys(wrong, count):
    known = stats.binomtest(wrong, count).proportion_ci(0.95, "wilson")
    assert wilson_interval(wrong / count, count) == pytest.approx(tuple(known), abs=1e-12)


def test_no_images_no_interval():
    assert all(map(math.isnan, wilson_interval(0.1, 0)))


@pytest.mark.parametrize(("won", "lost"), [(0, 4), (3, 7), (10, 0)])
def test_the_chance_of_winning_has_clopper_and_pearsons_interval(won, lost):
    known = stats.binomtest(won, won + lost).proportion_ci(0.95, "exact")
    estimate, low, high = chance_of_winning([0.1] * won + [-0.1] * lost)
    assert estimate == won / (won + lost)
    assert (low, high) == pytest.approx(tuple(known), abs=1e-12)


def test_ties_count_half_and_no_seed_says_nothing():
    estimate, low, high = chance_of_winning([0.0, 0.0])
    assert estimate == 0.5
    assert low == pytest.approx(1 - high)
    assert all(map(math.isnan, chance_of_winning([])))


def test_mcnemar_is_the_binomial_test_of_the_images_that_one_gets_right():
    first = np.array([True] * 90 + [True] * 9 + [False] * 2 + [False] * 5)
    second = np.array([True] * 90 + [False] * 9 + [True] * 2 + [False] * 5)
    closed = 2 * sum(math.comb(11, k) for k in range(3)) / 2**11
    assert mcnemar(first, second) == pytest.approx(closed)
    assert mcnemar(first, first) == 1
    with pytest.raises(ValueError, match="answers to 106 and to 3 images"):
        mcnemar(first, first[:3])
