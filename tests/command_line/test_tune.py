"""``tune`` and ``submit --tuned``: the trials, then the choice's final runs, interrupted or not."""

import shutil

import pandas as pd
import pytest

from marginbench import results
from marginbench.command_line.suite_selection import SuiteSelection
from marginbench.command_line.tune import tune_suite
from marginbench.runs.open_tuned import reopen_tuned
from marginbench.runs.run_folder import RunFolder
from tests.runs.made_runs import write_run

FOLDER = "runs/tiny-tuned"


@pytest.fixture(scope="module")
def tuned(made_once, tiny_suite, fork_server):
    """A finished search of two trials a head: the folder that it was run in."""

    def make(folder):
        runs = folder / "runs"
        selection = SuiteSelection(str(tiny_suite), runs, None, "full", (), (), trials=2)
        options = {"workers": 2, "device": "cpu", "threads": 1, "checkpoint_seconds": 60.0}
        flags = dict.fromkeys(("dry_run", "no_report", "force", "retrain_stale"), False)
        assert tune_suite(selection, **options, **flags) == 0

    return made_once("tuned", make)


@pytest.fixture
def copied(tuned, tmp_path):
    shutil.copytree(tuned, tmp_path, dirs_exist_ok=True)
    return tmp_path


def result_files(folder):
    return {path.parent.name: path.read_bytes() for path in folder.glob(f"{FOLDER}/*/result.json")}


def test_two_trials_a_head_then_the_choices_seeds_then_the_report(tuned, tiny_suite):
    run = reopen_tuned(str(tiny_suite), tuned / "runs")
    assert [result.finished for result in run.results] == [2, 2]
    # A choice other than the suite's own values is run beside them.
    own = sum(2 for result in run.results if result.chosen)
    assert len(result_files(tuned)) == len(run.runs) == 2 * 2 + 2 * 2 + own
    page = (tuned / FOLDER / "report/index.html").read_text()
    assert "Search at an equal budget" in page
    # Own and tuned values on the test set, of every head.
    gains = pd.read_csv(tuned / FOLDER / "report/tuning-gain-tiny.csv")
    assert gains["seeds"].tolist() == [2, 2]
    assert gains[["test, own %", "test, tuned %"]].notna().all(axis=None)
    assert not gains.eq("–").any(axis=None)
    assert (tuned / FOLDER / "report/tuning-budget.png").is_file()
    frame = results(str(tiny_suite), tuned / "runs", tuned=True)
    assert set(frame["state"]) == {"done"}
    for result in run.results:
        assert result.means[result.chosen] == min(result.means)


def test_an_interrupted_search_goes_on_to_what_an_undisturbed_one_has(
    copied, tuned, marginbench, tiny_suite
):
    run = reopen_tuned(str(tiny_suite), copied / "runs")
    lost = [run.results[1].search.trial_cells(1)[0], *run.results[1].search.final_cells(0)]
    for cell in lost:
        shutil.rmtree(RunFolder(run.folder, cell).path, ignore_errors=True)
    done = marginbench("tune", tiny_suite)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "search: 2 heads in 1 setting, 2 trials each" in done.stdout
    assert result_files(copied) == result_files(tuned)


def test_status_logs_and_report_know_the_trials(copied, marginbench, tiny_suite):
    status = marginbench("status", tiny_suite, "--tuned")
    # Trials and final runs, and the runs with the own values of a head that chose others.
    number = len(list((copied / FOLDER).glob("*/cell.json")))
    assert number >= 8
    assert f"{number} cells: {number} done" in status.stdout
    assert status.stdout.count("tiny: search") == 4
    run = reopen_tuned(str(tiny_suite), copied / "runs")
    logs = marginbench("logs", tiny_suite, run.runs[0].key, "--tuned")
    assert "training from iteration 0 of 24" in logs.stdout
    shutil.rmtree(copied / FOLDER / "report")
    done = marginbench("report", tiny_suite, "--tuned", "--section", "tuning")
    assert done.returncode == 0
    assert (copied / FOLDER / "report/index.html").is_file()
    only = marginbench("status", tiny_suite, "--tuned", "--only", "softmax")
    assert "4 cells: 4 done" in only.stdout


def test_a_dry_run_writes_nothing(marginbench, tiny_suite, tmp_path):
    done = marginbench("tune", tiny_suite, "--trials", 3, "--only", "softmax", "--dry-run")
    assert "search: 1 head in 1 setting, 3 trials each" in done.stdout
    assert "3 cells of 6" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_submit_hands_in_the_trials_and_then_the_final_runs(call, slurm, suite_file, tmp_path):
    output = call("submit", "--gpus", 0, "--tuned", "--trials", 3)
    assert "6 cells: 6 not started; 6 to submit" in output
    assert "6 trials without a result yet; when they are done, `marginbench submit" in output
    status = call("status", "--tuned")
    assert "6 cells: 6 pending" in status
    assert "6 trials without a result yet" in status
    assert "0 to submit" in call("submit", "--tuned")
    for folder in reopen_tuned(str(suite_file), tmp_path / "runs").runs:
        write_run(folder, 0.1)
    output = call("submit", "--tuned")
    assert "4 to submit" in output
    assert "without a result" not in output
    # Two seeds of each of two heads.
    assert "10 cells: 6 done, 4 pending" in call("status", "--tuned")
    assert "cancelled 4 cells" in call("cancel", "--tuned")


# As tests/command_line/conftest.py's suite.
FINALISTS_SUITE = """
from marginbench import Schedule, Search, component, grid, suite


@suite("finalists", seeds=1, sections=("comparison",), search=Search(3, seeds=2, finalists=1))
def finalists(seeds):
    return grid(
        setting="finalists",
        data="digits",
        backbone=component("small", widths=[4], features=2),
        head="softmax",
        schedule=Schedule(iterations=8, batch_size=32, evaluations=1),
        seed=seeds,
    )
"""


@pytest.fixture(scope="module")
def finalists_suite(tmp_path_factory):
    file = tmp_path_factory.mktemp("finalists") / "finalists.py"
    file.write_text(FINALISTS_SUITE)
    return file


def test_the_best_trials_further_seeds_come_before_the_final_runs(
    marginbench, finalists_suite, tmp_path
):
    done = marginbench("tune", finalists_suite, "--workers", 1)
    assert done.returncode == 0, done.stdout + done.stderr
    output = " ".join(done.stdout.split())
    assert "1 head in 1 setting, 3 trials each, the best of them with 1 further seed" in output
    run = reopen_tuned(str(finalists_suite), tmp_path / "runs")
    (result,) = run.results
    (finalist,) = result.finalists
    assert result.chosen == finalist
    assert f"finalists, softmax: 1 further seed for the best: trial {finalist}" in output
    assert [sum(error is not None for error in errors) for errors in result.errors] == [
        2 if number == finalist else 1 for number in range(3)
    ]
    assert all(one.read_result() is not None for one in run.runs)
    page = (tmp_path / "runs/finalists-tuned/report/index.html").read_text()
    assert "best 1 trial had 1 further seed, and the choice is among these" in page
    again = marginbench("tune", finalists_suite, "--workers", 1)
    assert again.returncode == 0
    assert f"{len(run.runs)} finished, 0 to run" in again.stdout


def test_of_as_many_trials_as_finalists_all_have_every_seed_at_once(marginbench, finalists_suite):
    done = marginbench("tune", finalists_suite, "--trials", 1, "--dry-run")
    assert done.returncode == 0
    assert "1 trial each\n" in done.stdout
    assert "2 cells, 0 finished, 2 to run" in done.stdout


def test_submit_hands_in_the_further_seeds_too(marginbench, slurm, finalists_suite, tmp_path):
    def call(*arguments):
        done = marginbench(*arguments)
        assert done.returncode == 0, done.stderr
        return " ".join((done.stdout + done.stderr).split())

    submit = ("submit", finalists_suite, "--gpus", 0, "--tuned")
    output = call(*submit)
    assert "3 to submit" in output
    assert "submits the further seeds of the best of them, and then the final runs" in output
    for expected, words in ((3, "1 to submit"), (1, "1 to submit"), (1, "0 to submit")):
        lacking = [
            one
            for one in reopen_tuned(str(finalists_suite), tmp_path / "runs").runs
            if one.read_result() is None
        ]
        assert len(lacking) == expected
        for one in lacking:
            write_run(one, 0.1)
        output = call(*submit)
        assert words in output
        assert "further seeds" not in output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tune", "digits", "--trials", "0"], ["--trials", "0"]),
        (["tune", "digits", "--repeats", "0"], ["--repeats", "0"]),
        (["tune", "digits", "--only", "triplet"], ["no cell with the head 'triplet'"]),
        (["tune", "digits", "--repeats", "2", "--seeds", "3"], ["repeats = 2", "allowed: 3"]),
        (["submit", "digits", "--trials", "4"], ["--trials", "allowed: with --tuned"]),
        (["status", "digits", "--tuned", "--seeds", "2"], ["--seeds", "not allowed with --tuned"]),
        (["status", "digits", "--tuned"], ["has no search", "`marginbench tune digits`"]),
    ],
)
def test_bad_input_gets_one_clear_message(marginbench, arguments, words, tmp_path):
    done = marginbench(*arguments)
    assert done.returncode != 0
    assert "Traceback" not in done.stdout + done.stderr
    for word in words:
        assert word in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_head_without_a_search_space_is_told(marginbench, tiny_suite, tmp_path, scratch_registry):
    (tmp_path / "bare.py").write_text(
        "from marginbench import register_head\n"
        "from marginbench.losses.softmax import Softmax\n\n\n"
        '@register_head("bare-head")\n'
        "class Bare(Softmax):\n"
        "    search_space = classmethod(lambda cls, num_classes: None)\n"
    )
    options = ["--plugin", "bare.py", "--head", "bare-head", "--trials", 2, "--dry-run"]
    done = marginbench("tune", tiny_suite, *options)
    assert done.returncode == 0, done.stderr
    words = " ".join(done.stdout.split())
    assert "bare-head: no search space of its own is declared" in words
