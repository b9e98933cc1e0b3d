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
    assert "8 cells: 8 done" in status.stdout
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
