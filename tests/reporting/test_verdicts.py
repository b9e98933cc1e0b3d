"""Verdicts on made data whose answer is known."""

import math

import numpy as np
import pytest
from scipy import stats

from marginbench.errors import UserError
from marginbench.reporting.decisions import Look, decide
from marginbench.reporting.power import seeds_for_difference
from marginbench.reporting.verdicts import COLUMNS, verdicts
from marginbench.runs.seed_plan import SeedPlan
from tests.reports.frames import frame, row


def made(differences, **fields):
    """A softmax at 30 % and a head a key, whose differences to it are known seed by seed."""
    count = max(len(values) for values in differences.values())
    rows = [row("softmax", seed=seed, error=0.3, **fields) for seed in range(count)]
    for head, values in differences.items():
        rows += [row(head, seed=s, error=0.3 + d, **fields) for s, d in enumerate(values)]
    return frame(rows)


def noise(mean, deviation, count, seed=0):
    """Values with exactly that mean and standard deviation."""
    drawn = np.random.default_rng(seed).normal(size=count)
    return mean + deviation * (drawn - drawn.mean()) / drawn.std(ddof=1)


def by_label(found):
    return found.set_index("label")


def test_verdicts_of_a_known_difference_and_of_none():
    differences = {
        "arcface": noise(-0.02, 0.004, 10, 1),
        "hinge": noise(0.03, 0.004, 10, 2),
        "triplet": noise(0.001, 0.004, 10, 3),
    }
    found = by_label(verdicts(made(differences)))
    assert list(found["verdict"]) == ["better", "worse", "not decided"]
    p_values = [stats.ttest_1samp(values, 0).pvalue for values in differences.values()]
    assert found["p"].to_numpy() == pytest.approx(p_values)
    # Holm: the smallest thrice, the next twice, the last as it is.
    factors = np.array([3, 3, 3]) - np.argsort(np.argsort(p_values))
    assert found["p_corrected"].to_numpy() == pytest.approx(factors * p_values)
    interval = stats.t.interval(1 - 0.05, 9, -0.02, 0.004 / math.sqrt(10))
    assert tuple(found.loc["arcface", ["low", "high"]]) == pytest.approx(interval)
    interval = stats.t.interval(1 - 0.05 / 3, 9, -0.02, 0.004 / math.sqrt(10))
    assert tuple(found.loc["arcface", ["corrected_low", "corrected_high"]]) == pytest.approx(
        interval
    )
    # The other two are decided: the last is tested at the whole level.
    more = seeds_for_difference(0.25, 0.05) - 10
    assert found.loc["triplet", "more_seeds"] == more
    assert math.isnan(found.loc["arcface", "more_seeds"])
    assert found.loc["arcface", "probability_better"] == 1
    assert list(found.reset_index().columns.sort_values()) == sorted(COLUMNS)


@pytest.mark.parametrize(("within", "verdict"), [(0.006, "equal"), (0.004, "not decided")])
def test_equal_where_the_corrected_interval_lies_within(within, verdict):
    """±t(9)·0.004/√10 at 1 − 5 %/2 are ±0.0034; with the mean 0.001 it reaches 0.0044."""
    differences = {"arcface": noise(0.001, 0.004, 10), "hinge": noise(0.05, 0.004, 10, 2)}
    found = by_label(verdicts(made(differences, equal_within=within)))
    assert found.loc["arcface", "verdict"] == verdict
    assert found.loc["hinge", "verdict"] == "worse"
    assert found["equal_within"].eq(within).all()


def test_equality_is_not_claimed_without_a_declared_difference():
    assert list(verdicts(made({"arcface": noise(0.0, 1e-5, 20)}))["verdict"]) == ["not decided"]


@pytest.mark.parametrize("values", [[-0.02] * 5, [0.0] * 5, [-0.02]])
def test_differences_without_spread_decide_nothing_and_have_no_interval(values):
    (found,) = verdicts(made({"arcface": values}, equal_within=0.1)).itertuples()
    assert found.verdict == "not decided"
    assert found.difference == pytest.approx(values[0])
    unknown = (found.low, found.high, found.corrected_low, found.more_seeds, found.p_corrected)
    assert all(map(math.isnan, unknown))


def test_missing_and_diverged_cells_are_counted():
    rows = [row("softmax", seed=s, error=0.3) for s in range(3)]
    rows += [row("arcface", seed=s, error=None, state="diverged") for s in range(3)]
    rows += [row("hinge", seed=s, error=None, state="not started") for s in range(3)]
    rows += [row("triplet", seed=s, error=0.2 + 0.08 * s) for s in range(2)]
    rows += [row("triplet", seed=2, error=None, state="diverged")]
    found = by_label(verdicts(frame(rows)))
    assert list(found["verdict"]) == ["diverged", "no result", "unstable"]
    assert list(found["diverged"]) == [3, 0, 1]
    assert list(found["seeds"]) == [0, 0, 2]
    assert list(found["asked"]) == [3, 3, 3]


def test_two_seeds_that_happen_to_agree_decide_nothing():
    alike = [-0.0302, -0.0298, -0.03]
    assert stats.ttest_1samp(alike[:2], 0).pvalue < 0.01
    for count, expected in ((2, "not decided"), (3, "better")):
        (verdict,) = verdicts(made({"arcface": alike[:count]}, equal_within=0.05))["verdict"]
        assert verdict == expected
        equal = [value + 0.03 for value in alike[:count]]
        (verdict,) = verdicts(made({"arcface": equal}, equal_within=0.01))["verdict"]
        assert verdict == ("equal" if expected == "better" else "not decided")


def test_without_a_baseline_there_is_nothing_to_compare_with():
    assert verdicts(frame([row("arcface", seed=s) for s in range(3)])).empty


def test_any_two_heads_are_compared():
    differences = {"arcface": noise(-0.02, 0.004, 10, 1), "hinge": noise(0.03, 0.004, 10, 2)}
    found = by_label(verdicts(made(differences), against="arcface"))
    assert list(found.index) == ["softmax", "hinge"]
    assert set(found["baseline"]) == {"arcface"}
    assert found.loc["softmax", "difference"] == pytest.approx(0.02)
    assert found.loc["hinge", "difference"] == pytest.approx(0.05)


def test_against_a_head_that_is_not_there_or_stands_for_several():
    rows = frame([row(), row("l-softmax", m=2), row("l-softmax", m=3)])
    with pytest.raises(UserError, match="'arcface' is not in this suite; allowed: softmax, l-s"):
        verdicts(rows, against="arcface")
    with pytest.raises(UserError, match="'l-softmax' stands for several; allowed: softmax, l-s"):
        verdicts(rows, against="l-softmax")
    assert len(verdicts(rows, against="l-softmax m=3")) == 2


def test_the_looks_of_a_plan_are_what_decides():
    """Twelve seeds at the looks 5, 8, 12; the effect is found at 8, where p suffices."""
    plan = SeedPlan(12)
    assert plan.looks == (5, 8, 12)
    values = noise(-0.02, 0.008, 12, 4)
    found = verdicts(
        made({"arcface": values}, max_seeds=12, first_look=5, spending=plan.spending)
    ).iloc[0]
    levels = plan.levels(0.05)
    p_values = [stats.ttest_1samp(values[:n], 0).pvalue for n in plan.looks]
    first = next(k for k in range(3) if p_values[k] <= levels[k])
    assert first == 1
    assert found["verdict"] == "better"
    assert found["look"] == plan.looks[first]
    assert found["p_corrected"] == pytest.approx(p_values[first] * 0.05 / levels[first])


def test_a_look_waits_until_its_runs_have_ended():
    values = noise(-0.02, 0.001, 5)
    frames = made({"arcface": values}, max_seeds=12, first_look=5, spending="obrien-fleming")
    frames.loc[frames.index[-1], "state"] = "running"
    (found,) = verdicts(frames).itertuples()
    assert (found.verdict, found.looks_left) == ("not decided", 3)
    assert math.isnan(found.look)


def test_a_head_decided_as_different_leaves_the_correction_and_an_equal_one_does_not():
    rng = np.random.default_rng(5)
    clear, none = rng.normal(5, 1, 20), noise(0, 0.001, 20)
    faint = noise(1.0, 2.0, 20)  # p = 0.0374
    heads = {"clear": clear, "none": none, "faint": faint}
    first = {name: Look(tuple(values)) for name, values in heads.items()}
    found = decide([first], (0.05,), equal_within=0.1)
    assert [found[name].verdict for name in heads] == ["better", "equal", "not decided"]
    p_value = stats.ttest_1samp(faint, 0).pvalue
    assert found["faint"].p_corrected == pytest.approx(2 * p_value)


def test_the_levels_of_a_plan_sum_to_the_whole_and_rise_late():
    for spending in ("obrien-fleming", "pocock"):
        levels = SeedPlan(30, spending).levels(0.05)
        assert sum(levels) == pytest.approx(0.05)
        assert all(level > 0 for level in levels)
    # Lan and DeMets: 2 − 2Φ(z(0.025)/√t); after 0.6 of the seeds 2 − 2Φ(1.95996/0.774597).
    levels = SeedPlan(30).levels(0.05)
    assert sum(levels[:4]) == pytest.approx(2 * stats.norm.sf(1.959964 / math.sqrt(0.6)), rel=1e-5)
