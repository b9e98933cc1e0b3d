"""Seeds in planned looks: which cells each look trains, when it stops, and what is said of it."""

import importlib
import json
import random

import numpy as np
import pytest

from marginbench.dispatch.local import DispatchProgress
from marginbench.runs.open_tuned import reopen_tuned
from marginbench.runs.run_folder import RunFolder
from marginbench.runs.seed_plan import PLAN, begin_plan, keep_plan, read_plan
from marginbench.runs.suite_runs import open_suite

# How much lower the error is than softmax's; hinge's is the same on average.
GAINS = {"arcface": 0.05, "hinge": 0.0}
OPTIONS = ("--until-decided", "--max-seeds", 8)


def finish(folder):
    """Give a cell a made result, which its head and seed decide."""
    cell = folder.cell
    noise = random.Random(f"{cell.head.name} {cell.seed}").gauss(0, 0.004)
    result = {"key": cell.key, "outcome": "finished", "reason": "", "iteration": 8}
    error = 0.3 - GAINS.get(cell.head.name, 0.0) + noise
    errors = {"train_error": 0.1, "test_error": error}
    folder.create()
    folder.write_history([{"iteration": 8, "learning_rate": 0.1, "loss": 1.0} | errors])
    np.savez(folder.evaluation, none=np.zeros(1))
    folder.write_result(result | errors | {"device": "cpu"})


@pytest.fixture
def trained(monkeypatch):
    """The (head, seed) of each cell, one list a call; instead of training, results are made."""
    monkeypatch.setenv("HEADS", "softmax arcface hinge")
    calls = []

    def dispatch(tasks, workers, show):
        calls.append([(task.cell.head.name, task.cell.seed) for task in tasks])
        progress = DispatchProgress(total=len(tasks))
        for task in tasks:
            folder = RunFolder(task.suite_folder, task.cell)
            finish(folder)
            progress.ended.append((folder, folder.status()))
        return progress

    run_module = importlib.import_module("marginbench.command_line.run")
    monkeypatch.setattr(run_module, "run_locally", dispatch)
    return calls


def cells(seeds, *heads):
    return {(head, seed) for head in heads for seed in seeds}


def test_decided_heads_stop_and_the_baseline_goes_on(call, trained, tmp_path):
    told = call("run", *OPTIONS, "--no-report")
    first, second = map(set, trained)
    assert first == cells(range(5), "softmax", "arcface", "hinge")
    assert second == cells(range(5, 8), "softmax", "hinge")
    assert "next look: 5 seeds (of 5, 8)" in told
    assert "queued, against softmax: better: arcface m=0.5; still looked for: hinge" in told
    assert "not decided at the end: hinge" in told
    assert json.loads((tmp_path / "runs/queued" / PLAN).read_text())["looks"] == [5, 8]
    # Every later command knows which cells there are, and by which looks they were decided.
    status = call("status")
    assert "21 cells: 21 done queued, against softmax: better: arcface m=0.5; not dec" in status
    call("report", "--section", "comparison")
    page = (tmp_path / "runs/queued/report/index.html").read_text()
    assert "arcface m=0.5 is better than softmax by" in page
    assert "all planned looks are taken, 8 seeds at most" in page
    assert "up to 8, each with its share of the 5 %" in page
    # There is nothing left to train.
    assert "nothing left to decide by more seeds" in call("run", "--until-decided", "--no-report")
    assert len(trained) == 2


def test_an_interrupted_look_goes_on_where_it_was(call, trained, tmp_path):
    call("run", *OPTIONS, "--no-report")
    for seed in (6, 7):
        (path,) = tmp_path.glob(f"runs/queued/*-hinge-seed{seed}-*/result.json")
        path.unlink()
    trained.clear()
    told = call("run", "--until-decided", "--no-report")
    assert "next look: 8 seeds" in told
    assert trained == [[("hinge", 6), ("hinge", 7)]]


def test_no_head_goes_on_while_another_lacks_a_run_of_the_look(call, trained, tmp_path):
    call("run", *OPTIONS, "--no-report")
    gone = [*tmp_path.glob("runs/queued/*-arcface-*seed4-*/result.json")]
    gone += [
        path for s in (5, 6, 7) for path in tmp_path.glob(f"runs/queued/*seed{s}-*/result.json")
    ]
    for path in gone:
        path.unlink()
    trained.clear()
    call("run", "--until-decided", "--no-report")
    first, second = trained
    assert first == [("arcface", 4)]
    assert set(second) == cells(range(5, 8), "softmax", "hinge")


def test_another_number_of_seeds_than_was_planned_is_refused(call, trained):
    call("run", *OPTIONS, "--no-report")
    told = call("run", "--until-decided", "--max-seeds", 12, status=None)
    assert "--max-seeds 12 is not allowed" in told
    assert "plans 8" in told


def test_a_dry_run_plans_and_writes_nothing(call, trained, tmp_path):
    told = call("run", *OPTIONS, "--dry-run")
    assert "15 cells, 0 finished, 15 to run" in told
    assert not list(tmp_path.glob("runs/**/*"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--until-decided", "--seeds", 3), "--seeds is not allowed with --until-decided"),
        (("--until-decided", "--only", "hinge"), "--only is not allowed with --until-decided"),
        (("--until-decided", "--force"), "--force is not allowed with --until-decided"),
        (("--max-seeds", 9), "--max-seeds is allowed with --until-decided only"),
    ],
)
def test_what_does_not_go_together(call, options, words):
    assert words in call("run", *options, status=None)


def test_each_look_is_a_submission(call, trained, suite_file, tmp_path):
    told = call("submit", *OPTIONS, "--gpus", 0)
    assert "submitted 15 cells" in told
    assert "type the same again: marginbench submit " in told
    assert "still looked for: arcface m=0.5, hinge" in call("status")
    # What waits in the queue is not submitted twice.
    assert "0 to submit" in call("submit", "--until-decided", "--gpus", 0)
    for run in open_suite(str(suite_file), tmp_path / "runs").runs:
        finish(run)
    told = call("submit", "--until-decided", "--gpus", 0)
    assert "better: arcface m=0.5; still looked for: hinge" in told
    assert "submitted 6 cells" in told


def test_the_final_runs_of_a_search_are_added_look_by_look(call, trained, tmp_path):
    told = call("tune", *OPTIONS, "--trials", 2, "--no-report")
    search, first, second = trained
    assert sorted(search) == sorted([(head, 0) for head in ("softmax", "arcface", "hinge")] * 2)
    assert set(first) == cells(range(5), "softmax", "arcface", "hinge")
    assert set(second) == cells(range(5, 8), "softmax", "hinge")
    assert told.index("3 heads in 1 setting, 2 trials each") < told.index("next look: 5 seeds")
    assert (tmp_path / "runs/queued-tuned" / PLAN).is_file()
    assert "27 cells: 27 done" in call("status", "--tuned")
    call("report", "--tuned", "--section", "comparison")
    page = (tmp_path / "runs/queued-tuned/report/index.html").read_text()
    assert "arcface is better than softmax by" in page
    assert "all planned looks are taken, 8 seeds at most" in page
    # Neither the search nor a look is begun anew, with the option or without.
    call("tune", "--until-decided", "--no-report")
    call("tune", "--no-report")
    assert len(trained) == 3


def test_a_search_once_a_seed_has_no_looks(call, trained):
    told = call("tune", *OPTIONS, "--repeats", 8, status=None)
    assert "not allowed with --until-decided" in told


def test_a_search_and_then_each_look_is_a_submission(call, trained, suite_file, tmp_path):
    options = ("--tuned", *OPTIONS, "--trials", 2, "--gpus", 0)
    assert "submitted 6 cells" in call("submit", *options)
    for run in reopen_tuned(str(suite_file), tmp_path / "runs").runs:
        finish(run)
    told = call("submit", "--tuned", "--until-decided", "--gpus", 0)
    assert "next look: 5 seeds" in told
    assert "submitted 15 cells" in told
    assert "--tuned --until-decided" in told
    for run in reopen_tuned(str(suite_file), tmp_path / "runs").runs:
        finish(run)
    told = call("submit", "--tuned", "--until-decided", "--gpus", 0)
    assert "better: arcface; still looked for: hinge" in told
    assert "submitted 6 cells" in told


@pytest.mark.parametrize(
    ("own", "most", "looks"),
    [
        (3, 30, (5, 8, 12, 18, 30)),
        (10, 30, (10, 18, 30)),
        (10, 12, (12,)),
        (20, 12, (12,)),
        (5, 5, (5,)),
    ],
)
def test_the_first_look_is_at_the_suites_own_seeds(own, most, looks, tmp_path):
    plan = begin_plan(tmp_path, most, own)
    assert plan.looks == looks
    assert sum(plan.levels(0.05)) == pytest.approx(0.05)
    keep_plan(tmp_path, plan)
    assert read_plan(tmp_path) == begin_plan(tmp_path, None, 3) == plan
