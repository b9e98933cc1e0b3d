"""Trials of several seeds of which the best alone have them all: on made errors."""

import math

import pytest

from marginbench.runs.open_tuned import open_tuned, reopen_tuned
from marginbench.runs.results import results
from marginbench.runs.run_folder import RunFolder
from tests.runs.made_runs import write_run

SUITE = """
from marginbench import Schedule, Search, component, grid, suite


@suite("made-finalists", seeds=2, search=Search(trials=6, seeds=3, finalists=2))
def made(seeds):
    return grid(
        data="digits",
        backbone=component("small", widths=[4]),
        head="softmax",
        schedule=Schedule(iterations=24, batch_size=32, evaluations=4),
        seed=seeds,
    )
"""
LUCKY = [(0.30,), (0.10, 0.90, 0.90), (0.40,), (0.20, 0.22, 0.24), (0.20,), (0.50,)]
"""A lucky run, two trials that are level for the second place, and others."""


@pytest.fixture(scope="module")
def suite_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("suite") / "made_finalists.py"
    file.write_text(SUITE)
    return str(file)


@pytest.fixture
def opened(suite_file, tmp_path):
    """Open the search, planned anew, and record it."""

    def call(**options):
        run = open_tuned(suite_file, tmp_path, **options)
        run.folder.mkdir(parents=True, exist_ok=True)
        run.record()
        return run

    return call


def finish(run, errors):
    """Write the results of all trial runs that are asked for; how many were new."""
    (result,) = run.results
    known = {
        cell.key: error
        for number, of_trial in enumerate(errors)
        for cell, error in zip(result.search.trial_cells(number), of_trial, strict=False)
    }
    new = [one for one in run.trial_runs if one.read_result() is None]
    for one in new:
        error = known[one.key]
        write_run(one, 0.5 if math.isinf(error) else error, diverged=math.isinf(error))
    return len(new)


def test_the_best_by_their_first_seed_have_the_others_and_a_lucky_run_is_not_chosen(
    opened, suite_file, tmp_path
):
    run = opened()
    assert len(run.runs) == 6
    assert {one.cell.seed for one in run.runs} == {0}
    assert finish(run, LUCKY) == 6
    run = opened()
    (result,) = run.results
    # Of the two that are level the first.
    assert result.finalists == [1, 3]
    assert (result.chosen, result.is_complete, result.finished) == (None, False, 4)
    assert [(one.cell.seed, one.cell.optimiser) for one in run.runs[2:4]] == [
        (seed, result.search.trials[1].optimiser) for seed in (1, 2)
    ]
    assert len(run.runs) == len(run.trial_runs) == 6 + 2 * 2
    waiting = results(suite_file, tmp_path, tuned=True)
    assert set(waiting["message"]) == {"its search has 4 of 6 trials"}
    assert finish(run, LUCKY) == 4
    again = reopen_tuned(suite_file, tmp_path)
    (result,) = again.results
    assert result.means == pytest.approx([0.30, 1.9 / 3, 0.40, 0.22, 0.20, 0.50])
    # Trial 4 has a lower error, but of one run; it is no finalist.
    assert result.chosen == 3
    assert len(again.trial_runs) == 10
    # Two seeds of the choice, and two of the suite's own values.
    assert len(again.runs) == 10 + 4
    assert finish(opened(), LUCKY) == 0


def test_of_more_trials_the_finalists_are_other_ones_whatever_was_run_before(opened):
    finish(opened(trials=4), LUCKY[:4])
    finish(opened(), LUCKY[:4])
    (result,) = opened().results
    assert (result.finalists, result.chosen) == ([1, 3], 3)
    more = [*LUCKY[:4], (0.05, 0.06, 0.07), (0.50,)]
    finish(opened(trials=6), more)
    (result,) = opened().results
    assert result.finalists == [1, 4]
    # What trial 3 had as a finalist of four is not counted any more.
    assert result.errors[3] == (0.20, 0.22, 0.24)
    assert result.means[3] == 0.20
    finish(opened(), more)
    (result,) = opened().results
    assert result.chosen == 4


def test_a_finalist_that_diverges_once_is_worse_than_the_other(opened):
    errors = [(0.3,), (0.1, 0.1, math.inf), (0.4,), (0.2, 0.2, 0.2), (0.5,), (math.inf,)]
    finish(opened(), errors)
    finish(opened(), errors)
    (result,) = opened().results
    assert (result.chosen, result.diverged) == (3, 2)


@pytest.mark.parametrize("first", [0.1, math.inf])
def test_where_all_finalists_diverge_the_suites_own_values_stay(opened, first):
    finalist = (first, math.inf, math.inf)
    errors = [(0.3, 0.3, 0.3), finalist, finalist, (0.4,), (0.4,), (0.4,)]
    if math.isinf(first):
        errors = [(math.inf,) * 3] * 6
    finish(opened(), errors)
    finish(opened(), errors)
    (result,) = opened().results
    assert result.chosen == 0


def test_a_first_seed_that_is_lost_is_waited_for(opened):
    finish(opened(), LUCKY)
    finish(opened(), LUCKY)
    run = opened()
    (result,) = run.results
    lost = RunFolder(run.folder, result.search.trial_cells(2)[0])
    (lost.path / "result.json").unlink()
    (result,) = opened().results
    assert (result.finalists, result.chosen) == ([], None)
    finish(opened(), LUCKY)
    (result,) = opened().results
    assert (result.finalists, result.chosen) == ([1, 3], 3)
