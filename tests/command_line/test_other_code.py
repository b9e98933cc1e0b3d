"""Results of other code: status, report and run name them, --retrain-stale trains them anew."""

import json
import os
import subprocess
import sys
import warnings

import pytest

from marginbench.runs.results import results
from marginbench.runs.suite_runs import open_suite
from tests.conftest import train_cell

NOTE = "1 result made by other code: marginbench/training/step.py changed; --retrain-stale"

SLURM = """#!/bin/sh
case "$(basename "$0")" in
scontrol) echo "ClusterName = fake"; echo "MaxArraySize = 1001"; echo "MaxJobCount = 10000";;
sbatch) {sbatch};;
*) ;;
esac
"""


@pytest.fixture
def stale(tmp_path, tiny_suite):
    """The run folders of the tiny suite, finished; the first one's result is by other code."""
    folders = open_suite(str(tiny_suite), tmp_path / "runs").runs
    for folder in folders:
        train_cell(folder.cell, folder.path.parent)
    first = folders[0]
    result = first.read_result() | {"code": "0" * 12, "train_error": 0.5}
    (first.path / "result.json").write_text(json.dumps(result))
    environment = first.read_environment()
    environment["code"]["files"]["marginbench/training/step.py"] = "0" * 16
    (first.path / "environment.json").write_text(json.dumps(environment))
    return folders


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Lets sbatch do what a line of shell says."""

    def answer(sbatch):
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        for name in ("sbatch", "squeue", "scontrol", "srun"):
            (folder / name).write_text(SLURM.format(sbatch=sbatch))
            (folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    return answer


def words(text):
    """The text without the terminal's line breaks."""
    return " ".join(text.split())


def test_status_and_report_tell(stale, marginbench, tiny_suite, tmp_path):
    assert f"note: {NOTE}" in words(marginbench("status", tiny_suite).stdout)
    done = marginbench("report", tiny_suite, "--section", "account")
    assert f"note: {NOTE}" in words(done.stdout)
    assert NOTE in (tmp_path / "runs/tiny/report/index.html").read_text()


def test_every_other_way_to_the_results_tells_too(stale, marginbench, tiny_suite, tmp_path, slurm):
    with pytest.warns(UserWarning, match=f"suite 'tiny': {NOTE}"):
        results(str(tiny_suite), tmp_path / "runs")
    slurm("exit 1")
    for verb in (
        ["run", tiny_suite, "--dry-run"],
        ["submit", tiny_suite, "--gpus", 0, "--dry-run"],
        ["export", tiny_suite, "--csv", "tables"],
        ["report", tiny_suite, "digits-open", "--section", "account"],
        ["report", tiny_suite, "--compare", "runs", "--runs", "new", "--section", "account"],
    ):
        done = marginbench(*verb)
        assert NOTE in words(done.stdout + done.stderr), verb


def test_results_of_todays_code_come_without_a_warning(tiny_suite, tmp_path):
    folders = open_suite(str(tiny_suite), tmp_path / "runs", seeds=1).runs
    train_cell(folders[0].cell, folders[0].path.parent)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(results(str(tiny_suite), tmp_path / "runs", seeds=1)) == 2


def test_run_trains_them_anew_where_asked(stale, marginbench, tiny_suite):
    done = marginbench("run", tiny_suite, "--dry-run")
    assert "4 finished, 0 to run" in done.stdout
    done = marginbench("run", tiny_suite, "--dry-run", "--retrain-stale")
    assert "4 finished, 1 to run (1 of other code or images)" in words(done.stdout)
    assert stale[0].path.name in done.stdout
    others = [folder.path.joinpath("result.json").stat().st_mtime_ns for folder in stale[1:]]
    options = ["--retrain-stale", "--workers", 1, "--device", "cpu", "--no-report"]
    assert marginbench("run", tiny_suite, *options).returncode == 0
    assert stale[0].read_result()["code"] == stale[1].read_result()["code"]
    assert stale[0].read_environment()["trained_from"] == 0
    assert [f.path.joinpath("result.json").stat().st_mtime_ns for f in stale[1:]] == others


def test_submit_sets_their_results_aside(stale, marginbench, tiny_suite, slurm):
    result = stale[0].path / "result.json"
    before = result.read_bytes()
    slurm("echo no such partition >&2; exit 1")
    done = marginbench("submit", tiny_suite, "--gpus", 0, "--retrain-stale")
    assert "no such partition" in done.stderr
    assert result.read_bytes() == before
    slurm("echo Submitted batch job 7")
    assert "0 to submit" in marginbench("submit", tiny_suite, "--gpus", 0).stdout
    done = marginbench("submit", tiny_suite, "--gpus", 0, "--retrain-stale", "--dry-run")
    assert "1 to submit" in done.stdout
    assert result.read_bytes() == before
    done = marginbench("submit", tiny_suite, "--gpus", 0, "--retrain-stale")
    assert "submitted 1 cell in 1 job array" in done.stdout, done.stdout + done.stderr
    assert not result.exists()
    assert (stale[0].path / "result-of-other-code.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [(["status"], NOTE), (["run", "--no-report"], "4 cells, 4 finished, 0 to run")],
)
def test_finished_cells_are_shown_without_torch(
    stale, tiny_suite, tmp_path, record_suite, arguments, expected
):
    record_suite(tiny_suite)
    code = (
        "import sys\n"
        f"sys.argv = ['marginbench', *{arguments!r}, {str(tiny_suite)!r}]\n"
        "from marginbench.command_line import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert expected in words(done.stdout)
