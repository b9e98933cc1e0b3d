"""The commands as a user types them, in processes of their own."""

import html
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from marginbench import results
from marginbench.runs.suite_runs import open_suite
from tests.command_line.conftest import COMMAND


@pytest.fixture(scope="session")
def finished(tmp_path_factory, tiny_suite):
    """A finished run of the tiny suite: the folder that it was run in, and what it printed."""
    folder = tmp_path_factory.mktemp("finished")
    done = subprocess.run(
        [*COMMAND, "run", str(tiny_suite)], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


@pytest.fixture
def copy_of_finished(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    return tmp_path


def run_folders(folder):
    return sorted(path.parent for path in folder.glob("runs/tiny/*/cell.json"))


def test_run_trains_all_cells_and_reports(finished):
    folder, output = finished
    assert "4 to run" in output
    assert "l-softmax m=2" in output
    assert "runs/tiny/report/index.html" in output
    assert len(list(folder.glob("runs/tiny/*/result.json"))) == 4
    assert (folder / "runs/tiny/report/index.html").is_file()


def test_modules_in_the_users_folder_are_not_taken_for_others_of_the_name(tiny_suite, tmp_path):
    for name in ("queue", "torch", "marginbench"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('of the current folder')\n")
    installed = str(Path(sys.executable).with_name("marginbench"))
    one_seed = [str(tiny_suite), "--seeds", "1"]
    for command, words in (
        (["run", *one_seed, "--only", "softmax", "--no-report"], "[1/1] done"),
        (["submit", *one_seed, "--executor", "local", "--gpus", "0"], "started 1 cell"),
        (["status", *one_seed, "--watch", "--every", "1"], "2 cells: 2 done"),
    ):
        done = subprocess.run(
            [installed, *command], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        output = done.stdout + done.stderr
        assert done.returncode == 0, output
        assert words in output
        assert "of the current folder" not in output


def test_workers_do_not_run_the_program_that_starts_them(tiny_suite, tmp_path):
    program, told = tmp_path / "program.py", tmp_path / "told"
    program.write_text(
        f"""
with open({str(told)!r}, "a") as file:
    file.write("run\\n")

from marginbench.command_line import main

# Without "if __name__ ...": a worker that came here would start workers of its own.
main(["run", {str(tiny_suite)!r}, "--seeds", "1", "--only", "softmax", "--no-report"])
"""
    )
    command = [sys.executable, str(program)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[1/1] done" in done.stdout
    assert told.read_text() == "run\n"


def test_a_second_run_trains_nothing(copy_of_finished, marginbench, tiny_suite):
    before = {p: p.stat().st_mtime_ns for p in copy_of_finished.glob("runs/tiny/*/*.*")}
    again = marginbench("run", tiny_suite)
    assert again.returncode == 0
    assert "4 finished, 0 to run" in again.stdout
    after = {p: p.stat().st_mtime_ns for p in copy_of_finished.glob("runs/tiny/*/*.*")}
    unchanged = {p for p in before if "report" not in p.parts}
    assert {p: after[p] for p in unchanged} == {p: before[p] for p in unchanged}


def test_the_next_command_is_the_users_own(copy_of_finished, marginbench, tiny_suite):
    done = marginbench("report", tiny_suite, "--runs", "runs", "--only", "softmax,l-softmax")
    assert done.returncode == 0, done.stdout
    page = html.unescape((copy_of_finished / "runs/tiny/report/index.html").read_text())
    words = f"marginbench run {tiny_suite} --runs runs --only softmax --only l-softmax --seeds "
    assert words in page


def test_a_report_is_left_alone_until_something_changes(copy_of_finished, marginbench, tiny_suite):
    page = copy_of_finished / "runs/tiny/report/index.html"
    table = page.with_name("comparison-tiny.csv").read_text().splitlines()

    def made(*command):
        before = page.stat().st_mtime_ns
        done = marginbench(*command)
        assert done.returncode == 0
        assert table[1].split(",")[1] in done.stdout
        anew = page.stat().st_mtime_ns != before
        assert ("up to date" in done.stdout) is not anew
        return anew

    made("run", tiny_suite)
    assert not made("run", tiny_suite)
    assert made("report", tiny_suite)
    assert not made("run", tiny_suite)
    assert made("report", tiny_suite, "--section", "comparison")
    assert made("run", tiny_suite)
    assert not made("run", tiny_suite)
    history = run_folders(copy_of_finished)[0] / "environment.json"
    history.write_text(history.read_text() + " ")
    assert made("run", tiny_suite)


def test_force_trains_again_to_the_same_bytes(copy_of_finished, marginbench, tiny_suite):
    results = {p: p.read_bytes() for p in copy_of_finished.glob("runs/tiny/*/result.json")}
    done = marginbench("run", tiny_suite, "--force", "--no-report", "--only", "softmax")
    assert "2 cells of 4, 2 finished, 2 to run" in done.stdout
    assert {p: p.read_bytes() for p in results} == results


def test_dry_run_writes_nothing(marginbench, tiny_suite, tmp_path):
    done = marginbench("run", tiny_suite, "--dry-run")
    assert done.returncode == 0
    assert done.stdout.count("digits-small") == 4
    assert list(tmp_path.iterdir()) == []


def test_missing_data_are_reported_before_anything_is_written(marginbench, tmp_path, monkeypatch):
    def offline(dataset, folder):
        raise OSError("no network in tests")

    monkeypatch.setattr("marginbench.data.files.downloads._download", offline)
    monkeypatch.setenv("MARGINBENCH_DATA", str(tmp_path / "images" / "here"))
    done = marginbench("run", "mnist", "--size", "small", "--runs", tmp_path / "new" / "runs")
    assert done.returncode == 1
    assert str(tmp_path / "images" / "here" / "MNIST" / "raw") in done.stderr
    assert "train-images-idx3-ubyte" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_only_takes_several_heads(marginbench, tiny_suite):
    for lists in (["softmax,l-softmax"], ["softmax, l-softmax"], ["softmax", "l-softmax"]):
        only = [word for heads in lists for word in ("--only", heads)]
        done = marginbench("run", tiny_suite, "--dry-run", *only)
        assert "tiny: 4 cells, 0 finished" in done.stdout
    done = marginbench("run", "--only", "l-softmax", tiny_suite, "--dry-run")
    assert "2 cells of 4, 0 finished" in done.stdout


def test_status_shows_every_cell(copy_of_finished, marginbench, tiny_suite):
    first = run_folders(copy_of_finished)[0]
    (first / "result.json").unlink()
    status = marginbench("status", tiny_suite, "--seeds", "3")
    assert "6 cells: 3 done, 1 stopped, 2 not started" in status.stdout
    assert status.returncode == 0


def test_results_by_a_suites_file_are_those_of_the_opened_suite(copy_of_finished, tiny_suite):
    runs = copy_of_finished / "runs"
    frame = results(tiny_suite, str(runs), only=["softmax"], seeds=3)
    assert list(frame["state"]) == ["done", "done", "not started"]
    opened = open_suite(str(tiny_suite), runs, only=["softmax"], seeds=3)
    pd.testing.assert_frame_equal(frame, results(opened))


def test_a_failed_cell_is_reported_and_the_rest_is_done(marginbench, tmp_path, scratch_registry):
    plugin = tmp_path / "breaking.py"
    plugin.write_text(
        "from marginbench import Schedule, grid, suite\n"
        "from marginbench.heads import Head, register_head\n"
        "@register_head('breaking')\n"
        "class Breaking(Head):\n"
        "    def loss(self, features, labels):\n"
        "        raise ValueError('this head breaks')\n"
        "    def scores(self, features):\n"
        "        return features\n"
        "@suite('mixed', sections=('account', 'comparison'))\n"
        "def mixed(seeds):\n"
        "    return grid(data='digits', backbone='small', head=['softmax', 'breaking'],\n"
        "        schedule=Schedule(iterations=4, batch_size=16, evaluations=1), seed=0)\n"
    )
    done = marginbench("run", plugin)
    assert done.returncode == 1
    assert "ValueError: this head breaks" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert "test error" in done.stdout
    status = marginbench("status", plugin)
    assert status.returncode == 1
    assert "1 done, 1 failed" in status.stdout
    log = next(tmp_path.glob("runs/mixed/*breaking*/log.txt")).read_text()
    assert "Traceback" in log


@pytest.mark.parametrize("name", ["cell.json", "result.json", "history.jsonl", "evaluation.npz"])
def test_a_damaged_folder_costs_one_cell(name, copy_of_finished, marginbench, tiny_suite):
    damaged, *others = run_folders(copy_of_finished)
    (damaged / name).write_text("{damaged")
    untouched = {folder: (folder / "result.json").read_bytes() for folder in others}
    done = marginbench("run", tiny_suite)
    assert done.returncode == 1
    assert f"{damaged.relative_to(copy_of_finished)}/{name} is damaged" in done.stdout
    assert "move or delete" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert (damaged / name).read_text() == "{damaged"
    assert {f: (f / "result.json").read_bytes() for f in untouched} == untouched
    page = (copy_of_finished / "runs/tiny/report/index.html").read_text()
    assert "3 of 4 cells done, 1 damaged" in page
    healed = marginbench("run", tiny_suite, "--force", "--no-report")
    assert healed.returncode == 0, healed.stdout


def test_a_damaged_checkpoint_costs_one_cell(copy_of_finished, marginbench, tiny_suite):
    damaged = run_folders(copy_of_finished)[0]
    (damaged / "result.json").unlink()
    (damaged / "checkpoint.pt").write_bytes(b"damaged")
    done = marginbench("run", tiny_suite)
    assert done.returncode == 1
    assert "checkpoint.pt is damaged" in done.stdout
    assert "3 finished, 1 to run" in done.stdout
    (damaged / "checkpoint.pt").unlink()
    assert marginbench("run", tiny_suite, "--no-report").returncode == 0


def test_report_from_an_unfinished_grid(copy_of_finished, marginbench, tiny_suite):
    shutil.rmtree(run_folders(copy_of_finished)[0])
    done = marginbench("report", tiny_suite, "--section", "comparison", "--section", "account")
    assert done.returncode == 0
    page = (copy_of_finished / "runs/tiny/report/index.html").read_text()
    assert "3 of 4 cells done, 1 not started" in page
    assert "Overfitting" not in page


def test_any_head_can_be_what_the_others_are_compared_with(
    copy_of_finished, marginbench, tiny_suite
):
    against = ["report", tiny_suite, "--section", "comparison", "--against"]
    assert marginbench(*against, "l-softmax").returncode == 0
    lines = (copy_of_finished / "runs/tiny/report/comparison-tiny.csv").read_text().splitlines()
    assert [line.split(",")[:2] for line in lines[2:]] == [["l-softmax m=2", "baseline"]]
    done = marginbench(*against, "arcface")
    assert done.returncode != 0
    assert "allowed: softmax, l-softmax m=2" in " ".join((done.stdout + done.stderr).split())
    # Of a suite that has no run yet, what is refused leaves no folder.
    assert marginbench("report", "digits", "--against", "nobody").returncode != 0
    assert not (copy_of_finished / "runs/digits").exists()


def test_several_suites_have_one_report(copy_of_finished, marginbench, tiny_suite):
    other = copy_of_finished / "other.py"
    other.write_text(tiny_suite.read_text().replace('"tiny"', '"other"').replace("tiny(", "other("))
    shutil.copytree(copy_of_finished / "runs/tiny", copy_of_finished / "runs/other")
    done = marginbench("report", tiny_suite, other, "--section", "data-sets")
    assert done.returncode == 0, done.stderr
    assert "Mean rank over the data sets" in done.stdout
    folder = copy_of_finished / "runs/tiny+other/report"
    assert (folder / "critical-difference.png").is_file()
    assert "l-softmax m=2" in (folder / "wins-draws-losses.csv").read_text()
    again = marginbench("report", tiny_suite, tiny_suite)
    assert again.returncode != 0
    assert "one is given twice" in again.stdout + again.stderr


def test_a_report_counts_the_cells_that_left_the_suite(copy_of_finished, marginbench, tiny_suite):
    file = copy_of_finished / "runs/tiny/cells.jsonl"
    assert len(file.read_text().splitlines()) == 4
    assert "not shown" not in marginbench("report", tiny_suite, "--section", "account").stdout
    options = ["--head", "arcface", "--only", "arcface", "--no-report", "--device", "cpu"]
    assert marginbench("run", tiny_suite, *options, "--seeds", 1).returncode == 0
    done = marginbench("report", tiny_suite, "--section", "account")
    note = "not shown: 1 cell of the manifest that left the suite, or came by --head or --plugin"
    assert f"note: {note}" in " ".join(done.stdout.split())
    assert note in (copy_of_finished / "runs/tiny/report/index.html").read_text()
    status = " ".join(marginbench("status", tiny_suite).stdout.split())
    assert "4 cells: 4 done note: left the suite" in status


def test_report_of_nothing_at_all(marginbench, tiny_suite, tmp_path):
    done = marginbench("report", tiny_suite)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 of 4 cells done" in (tmp_path / "runs/tiny/report/index.html").read_text()


def test_results_carry_what_they_were_run_with(finished):
    folder = run_folders(finished[0])[0]
    environment = json.loads((folder / "environment.json").read_text())
    assert {"marginbench", "torch", "python", "host", "threads"} <= set(environment)
    assert environment["cpu_capability"] == torch.backends.cpu.get_cpu_capability()
    page = (finished[0] / "runs/tiny/report/index.html").read_text()
    assert f"cpu, {environment['processor']}, {environment['cpu_capability']}" in page
    assert json.loads((folder / "result.json").read_text())["device"] == "cpu"
