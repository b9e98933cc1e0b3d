"""The expected best of a number of trials is that of all ways to draw them."""

import itertools
import statistics

import pytest

from marginbench.reporting.search_curves import expected_best


@pytest.mark.parametrize(
    ("own", "drawn"), [(0.3, [0.5, 0.1, 0.2]), (0.15, [0.4, 0.4, 0.1, 0.2]), (0.0, [0.1, 0.2])]
)
def test_the_closed_form_is_the_mean_over_all_draws(own, drawn):
    found = expected_best(own, drawn)
    assert len(found) == len(drawn) + 1
    assert found[0] == (own, 0.0)
    for draws in range(1, len(drawn) + 1):
        lowest = [min(own, *values) for values in itertools.product(drawn, repeat=draws)]
        assert found[draws].mean == pytest.approx(statistics.fmean(lowest))
        assert found[draws].deviation == pytest.approx(statistics.pstdev(lowest), abs=1e-9)


def test_one_trial_is_the_suites_own_values():
    assert expected_best(0.2, []) == [(0.2, 0.0)]
