"""The simulation of benchmarks/until_decided.py, small: the promise is kept, and runs are saved."""

from scipy import stats

from benchmarks.until_decided import LIKE_THE_DIGITS, SCENARIOS, Scenario, is_false, simulate
from marginbench.runs.seed_plan import SeedPlan

TABLES = 200


def test_without_differences_few_tables_hold_a_false_claim():
    """At 5 %, 20 of 200 at most, with a chance of 99.9 %; the same test at each look makes more."""
    plan = SeedPlan(30)
    kept = simulate(SCENARIOS[0], plan.looks, plan.levels(0.05), TABLES)
    assert kept["false"] * TABLES <= stats.binom.ppf(0.999, TABLES, 0.05)
    broken = simulate(SCENARIOS[0], plan.looks, (0.05,) * len(plan.looks), TABLES)
    assert broken["false"] * TABLES > stats.binom.ppf(0.999, TABLES, 0.05)


def test_decided_heads_save_runs():
    plan = SeedPlan(30)
    found = simulate(Scenario("", LIKE_THE_DIGITS), plan.looks, plan.levels(0.05), 50)
    fixed = simulate(Scenario("", LIKE_THE_DIGITS), (30,), (0.05,), 50)
    assert fixed["runs"] == 12 * 30
    assert found["runs"] < 0.8 * fixed["runs"]
    assert found["found"] > 0.95 * fixed["found"]


def test_what_counts_as_a_false_claim():
    assert is_false("better", 0.0, None)
    assert is_false("worse", 0.5, None)
    assert not is_false("better", 0.5, None)
    assert is_false("equal", -1.0, 1.0)
    assert not is_false("equal", 0.5, 1.0)
    assert not is_false("not decided", 0.0, None)
