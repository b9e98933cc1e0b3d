"""Every verb ends with a word where run folders are damaged, and ``run`` trains the others."""

import os
import shutil

import pytest

from marginbench.runs.cell_status import State
from marginbench.runs.suite_runs import open_suite


def make_directory(path):
    path.mkdir()


def link_to_itself(path):
    path.symlink_to(path)


def deep(path):
    path.write_text("[" * 100_000)


# What is put where a file of a cell that has not begun should be, and what it makes of the cell.
DAMAGE = [
    ("result.json", make_directory, State.DAMAGED),
    ("failure.json", make_directory, State.DAMAGED),
    ("log.txt", make_directory, State.DAMAGED),
    ("lease-1.json", make_directory, State.DAMAGED),
    ("checkpoint.pt", link_to_itself, State.DAMAGED),
    ("history.jsonl", os.mkfifo, State.DAMAGED),
    ("cell.json", deep, State.DAMAGED),
    (".", link_to_itself, State.DAMAGED),
    ("failure.json", deep, State.DONE),
    ("history.jsonl", deep, State.DONE),
    ("environment.json", deep, State.DONE),
]


@pytest.fixture
def damaged(tiny_suite, tmp_path):
    """A suite with one kind of damage a cell, and one cell that is whole; nothing is trained."""
    folders = open_suite(str(tiny_suite), tmp_path / "runs", seeds=6).runs
    assert len(folders) == len(DAMAGE) + 1
    for folder, (name, put, _) in zip(folders[1:], DAMAGE, strict=True):
        if name != ".":
            folder.path.mkdir(parents=True)
        put(folder.path / name if name != "." else folder.path)
    return folders


def test_run_trains_the_cells_that_are_whole(damaged, marginbench, tiny_suite):
    ran = marginbench("run", tiny_suite, "--seeds", 6, "--no-report", "--workers", 1)
    assert ran.returncode == 1
    assert [folder.status().state for folder in damaged] == [
        State.DONE,
        *(state for _, _, state in DAMAGE),
    ]
    for folder, (_, _, state) in zip(damaged[1:], DAMAGE, strict=True):
        shown = f"damaged: runs/tiny/{folder.path.name}" in ran.stdout
        assert shown == (state == State.DAMAGED)
    forced = marginbench("run", tiny_suite, "--seeds", 6, "--no-report", "--workers", 1, "--force")
    assert forced.returncode == 1
    assert "Traceback" not in ran.stdout + ran.stderr + forced.stdout + forced.stderr


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["status"], 1),
        (["submit", "--executor", "local", "--gpus", "0", "--dry-run"], 0),
        (["cancel"], 0),
        (["report"], 1),
    ],
)
def test_the_other_verbs_tell_of_the_damage(arguments, status, damaged, marginbench, tiny_suite):
    verb, *options = arguments
    done = marginbench(verb, tiny_suite, "--seeds", 6, *options)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--section", "account"],
        ["--section", "account", "--runs", "new", "--compare", "runs"],
        ["digits", "--section", "account"],
    ],
    ids=["one suite", "compared", "several suites"],
)
def test_every_report_names_each_damaged_file_once(arguments, damaged, marginbench, tiny_suite):
    done = marginbench("report", tiny_suite, "--seeds", 6, *arguments)
    assert done.returncode == 1, done.stderr
    broken = [one for one in damaged if one.status().state == State.DAMAGED]
    told = [line for line in done.stdout.splitlines() if line.startswith("damaged: ")]
    assert [sum(str(one.path.name) in line for line in told) for one in broken] == [1] * len(broken)
    assert len(told) == len(broken)
    assert "12 of 12 cells without a result: " in " ".join(done.stdout.split())


def test_logs_of_a_damaged_cell(damaged, marginbench, tiny_suite):
    for folder in damaged:
        done = marginbench("logs", tiny_suite, folder.key, "--seeds", 6)
        assert done.returncode == 1
        assert "has written nothing yet" in done.stderr


def test_a_report_that_cannot_be_written_is_reported(damaged, marginbench, tiny_suite):
    shutil.rmtree(damaged[0].path.parent)
    suite_folder = damaged[0].path.parent
    (suite_folder / "report" / "made-from.json").mkdir(parents=True)
    done = marginbench("report", tiny_suite)
    assert done.returncode == 1
    assert "the report cannot be written" in done.stdout
    assert "made-from.json" in done.stdout
