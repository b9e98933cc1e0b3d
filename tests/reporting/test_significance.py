"""Marks only where a paired test, corrected for many comparisons, bears them."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from marginbench.reporting.significance import holm, mean_interval, paired_p_value


def test_the_p_value_is_the_t_integral():
    differences = [0.3, 0.1, 0.4, 0.2]
    mean, deviation = np.mean(differences), np.std(differences, ddof=1)
    t = mean / (deviation / 2)
    density = lambda x: (1 + x * x / 3) ** -2 * 2 / (math.pi * 3**0.5)  # noqa: E731
    two_sided = 1 - 2 * integrate.quad(density, 0, t)[0]
    assert paired_p_value(differences) == pytest.approx(two_sided, rel=1e-6)


@pytest.mark.parametrize("differences", [[], [0.1], [0.1, 0.1, 0.1], [0.0, 0.0]])
def test_no_spread_is_no_test_and_no_interval(differences):
    assert math.isnan(paired_p_value(differences))
    assert all(map(math.isnan, mean_interval(differences)))


def test_the_interval_excludes_zero_exactly_where_the_test_does():
    random = np.random.default_rng(0)
    for _ in range(50):
        values = random.normal(0.5, 1, size=5)
        low, high = mean_interval(values)
        assert (low > 0 or high < 0) == (paired_p_value(values) < 0.05)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_the_closed_test_of_bonferroni(p_values):
    """Marcus, Peritz and Gabriel, 1976: reject i iff every subset with i is rejected."""
    corrected = holm(p_values)
    everyone = range(len(p_values))
    for i in everyone:
        subsets = [
            s
            for size in range(1, len(p_values) + 1)
            for s in itertools.combinations(everyone, size)
            if i in s
        ]
        closed = max(min(1, len(s) * min(p_values[j] for j in s)) for s in subsets)
        assert corrected[i] == pytest.approx(closed)


def test_what_was_not_tested_does_not_count():
    corrected = holm([0.01, float("nan"), 0.03])
    assert corrected[0] == pytest.approx(0.02)
    assert math.isnan(corrected[1])
    assert corrected[2] == pytest.approx(0.03)


def test_false_marks_are_as_rare_as_stated():
    random = np.random.default_rng(2)
    false_marks = 0
    for _ in range(1000):
        p_values = [paired_p_value(random.normal(size=5)) for _ in range(8)]
        false_marks += min(holm(p_values)) < 0.05
    # 1,000 grids without any real difference: 50 expected at most, 70 is three deviations off.
    assert false_marks <= stats.binom.ppf(0.999, 1000, 0.05)
