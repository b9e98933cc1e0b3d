"""What a search chooses: on made errors whose best point is known, in whatever order they come."""

import math
import random

import pytest

from marginbench.errors import DamagedFile, UserError
from marginbench.runs.cell_status import State
from marginbench.runs.open_tuned import open_tuned, reopen_tuned
from marginbench.runs.results import results
from marginbench.runs.run_folder import RunFolder
from marginbench.runs.search_results import SearchResult
from marginbench.runs.suite_runs import open_suite
from tests.runs.made_runs import write_run

BEST_RATE = 0.03


@pytest.fixture
def opened(tiny_suite, tmp_path):
    """Open the search of the tiny suite: two heads, two seeds."""

    def call(**options):
        run = open_tuned(str(tiny_suite), tmp_path, **({"trials": 8} | options))
        run.folder.mkdir(parents=True, exist_ok=True)
        run.record()
        return run

    return call


def error_by_rate(cell):
    """Least at a learning rate of 0.03, whatever the head."""
    return 0.05 + 0.02 * abs(math.log(cell.optimiser.learning_rate / BEST_RATE))


def finish(run, error=error_by_rate, *, diverges=lambda cell: False, runs=None):
    for folder in run.runs if runs is None else runs:
        write_run(folder, error(folder.cell), diverged=diverges(folder.cell))


def is_trial(folder):
    return folder.cell.setting.endswith(": search")


def test_the_best_point_is_chosen_and_its_final_runs_have_every_seed(opened, tiny_suite, tmp_path):
    run = opened()
    assert len(run.runs) == 2 * 8
    assert all(map(is_trial, run.runs))
    finish(run)
    again = reopen_tuned(str(tiny_suite), tmp_path)
    own = {folder.key for folder in open_suite(str(tiny_suite), tmp_path).runs}
    later = [folder for folder in again.runs if not is_trial(folder)]
    # Beside the choices' runs there are those of the suite's own values, to compare with.
    assert own <= {folder.key for folder in later}
    final = [folder for folder in later if folder.key not in own]
    assert [folder.cell.seed for folder in final] == [0, 1, 0, 1]
    for result in again.results:
        rates = [trial.optimiser.learning_rate for trial in result.search.trials]
        nearest = min(rates, key=lambda rate: abs(math.log(rate / BEST_RATE)))
        assert rates[result.chosen] == nearest
        chosen = [f.cell for f in final if f.cell.head.name == result.search.head]
        assert {cell.optimiser.learning_rate for cell in chosen} == {nearest}
        assert {cell.data.parameters["validation"] for cell in chosen} == {"none"}


def test_where_the_suites_own_values_are_best_they_stay_and_are_the_same_cells(
    opened, tiny_suite, tmp_path
):
    run = opened()
    finish(run, lambda cell: 0.1 if cell.optimiser.learning_rate == 0.1 else 0.2)
    again = reopen_tuned(str(tiny_suite), tmp_path)
    assert [result.chosen for result in again.results] == [0, 0]
    own = {folder.key for folder in open_suite(str(tiny_suite), tmp_path).runs}
    assert {folder.key for folder in again.runs if not is_trial(folder)} == own


def test_of_equal_trials_the_first_is_chosen(opened):
    finish(opened(), lambda cell: 0.1)
    assert [result.chosen for result in opened().results] == [0, 0]


@pytest.mark.parametrize("all_of_them", [False, True])
def test_a_trial_that_diverged_is_worse_than_any_other(opened, all_of_them):
    run = opened()
    rates = sorted(folder.cell.optimiser.learning_rate for folder in run.runs)

    def diverges(cell):
        return all_of_them or cell.optimiser.learning_rate < rates[8]

    # What diverged has the lowest error there is, as a run may have had when it did.
    finish(run, lambda cell: 0.0 if diverges(cell) else error_by_rate(cell), diverges=diverges)
    for result in opened().results:
        chosen = result.search.trials[result.chosen].optimiser.learning_rate
        assert result.is_complete
        if all_of_them:
            assert (result.chosen, result.diverged) == (0, 8)
        else:
            assert 0 < result.diverged < 8
            assert chosen >= rates[8]


def test_an_interrupted_search_ends_as_an_undisturbed_one(opened, tiny_suite, tmp_path):
    run = opened()
    order = list(run.runs)
    random.Random(0).shuffle(order)
    finish(run, runs=order[:11])
    between = reopen_tuned(str(tiny_suite), tmp_path)
    assert len(between.runs) == 16 + 2 * sum(r.is_complete for r in between.results)
    frame = results(str(tiny_suite), tmp_path, tuned=True)
    waiting = frame[frame["head"].isin([r.search.head for r in between.incomplete])]
    assert set(waiting["state"]) == {State.NOT_STARTED.value}
    assert waiting["test_error"].isna().all()
    assert waiting["message"].str.match(r"its search has \d of 8 trials").all()
    finish(run, runs=order[11:])
    (tmp_path / "other").mkdir()
    undisturbed = open_tuned(str(tiny_suite), tmp_path / "other", trials=8)
    finish(undisturbed)
    first, second = opened(), open_tuned(str(tiny_suite), tmp_path / "other", trials=8)
    assert [r.chosen for r in first.results] == [r.chosen for r in second.results]
    assert [f.key for f in first.runs] == [f.key for f in second.runs]


def test_more_trials_go_on_from_those_that_there_are(opened, tiny_suite, tmp_path):
    finish(opened())
    more = opened(trials=16)
    assert [result.finished for result in more.results] == [8, 8]
    assert [len(result.errors) for result in more.results] == [16, 16]
    # Not said how many: as many as last time.
    assert open_tuned(str(tiny_suite), tmp_path).trials == 16


def test_a_choice_is_by_the_mean_over_its_seeds(opened, tmp_path):
    source = """
from marginbench import Schedule, Search, component, grid, suite


@suite("two-seeds-a-trial", seeds=1, search=Search(trials=3, seeds=2))
def two_seeds_a_trial(seeds):
    return grid(
        data="digits",
        backbone=component("small", widths=[4]),
        head="softmax",
        schedule=Schedule(iterations=24, batch_size=32, evaluations=4),
        seed=seeds,
    )
"""
    file = tmp_path / "two_seeds_a_trial.py"
    file.write_text(source)
    run = open_tuned(str(file), tmp_path)
    (result,) = run.results
    errors = [(0.0, 0.5), (0.2, 0.2), (0.1, 0.4)]
    for number, pair in enumerate(errors):
        for cell, error in zip(result.search.trial_cells(number), pair, strict=True):
            write_run(RunFolder(run.folder, cell), error)
    (result,) = open_tuned(str(file), tmp_path).results
    assert result.errors == tuple(errors)
    assert result.chosen == 1


def test_own_values_that_the_suite_has_run_are_not_run_again(opened, tiny_suite, tmp_path):
    finish(opened())
    own = open_suite(str(tiny_suite), tmp_path).runs
    write_run(own[0], 0.5)
    wanted = {folder.key for folder in own[1:]}
    assert {folder.key for folder in opened().runs} & {folder.key for folder in own} == wanted
    # What was run here stays the search's, whatever is run elsewhere later.
    for folder in own[1:]:
        write_run(folder, 0.5)
    again = reopen_tuned(str(tiny_suite), tmp_path)
    assert {folder.key for folder in again.runs} & {folder.key for folder in own} == wanted
    assert again.left == []


def test_final_runs_are_one_comparison_whatever_was_chosen(opened, tiny_suite, tmp_path):
    finish(opened())
    for folder in open_suite(str(tiny_suite), tmp_path).runs:
        write_run(folder, 0.5)
    run = opened()
    finish(run, runs=[folder for folder in run.runs if not is_trial(folder)])
    frame = results(str(tiny_suite), tmp_path, tuned=True)
    assert frame["label"].tolist() == ["softmax"] * 2 + ["l-softmax"] * 2
    assert frame["comparison"].nunique() == 1
    assert set(frame["state"]) == {"done"}
    assert frame["test_error"].notna().all()
    found = frame["search"].iloc[0]
    assert isinstance(found, SearchResult)
    assert found.untuned == ((0, 0.5), (1, 0.5))
    only = reopen_tuned(str(tiny_suite), tmp_path, only=["softmax"])
    assert {folder.cell.head.name for folder in only.runs} == {"softmax"}
    assert (only.of, len(only.runs)) == (20, 10)


def test_what_left_the_search_is_told_apart(opened, tiny_suite, tmp_path):
    finish(opened(trials=8))
    fewer = opened(trials=4)
    assert len(fewer.left) == 8
    assert all(map(is_trial, fewer.left))


def test_looking_at_a_search_that_is_not_there_is_refused(opened, tiny_suite, tmp_path):
    with pytest.raises(UserError, match=r"has no search in .*tiny-tuned'; start one with `margin"):
        reopen_tuned(str(tiny_suite), tmp_path)
    run = opened()
    with pytest.raises(UserError, match="no search of the head 'arcface'; its heads: softmax, l-s"):
        reopen_tuned(str(tiny_suite), tmp_path, only=["arcface"])
    with pytest.raises(UserError, match="no cell with the head 'arcface'"):
        opened(only=["arcface"])
    (run.folder / "search.json").write_text('{"searches": [{"head": 1}]}')
    with pytest.raises(DamagedFile, match=r"search\.json"):
        reopen_tuned(str(tiny_suite), tmp_path)


def test_ranges_of_a_head_that_the_suite_does_not_have_are_refused(tmp_path):
    source = """
from marginbench import Schedule, Search, Uniform, grid, suite


@suite("ranges-of-another", search=Search(heads={"arcface": {"m": Uniform(0.1, 0.2)}}))
def ranges_of_another(seeds):
    return grid(
        data="digits",
        backbone="small",
        head="softmax",
        schedule=Schedule(iterations=24, batch_size=32),
        seed=seeds,
    )
"""
    file = tmp_path / "ranges_of_another.py"
    file.write_text(source)
    with pytest.raises(UserError, match=r"heads = 'arcface' is not allowed; allowed: .*: softmax"):
        open_tuned(str(file), tmp_path)
