"""Whatever has become of one run folder, that cell alone is damaged, and every command ends."""

import errno
import io
import json
import os
import shutil

import pytest
from rich.console import Console

from marginbench.command_line.status import status_table
from marginbench.dispatch.slurm import inspection
from marginbench.dispatch.slurm.inspection import inspect_suite
from marginbench.experiments.suites import Suite
from marginbench.reporting.report_state import fingerprint
from marginbench.runs.cell_status import State
from marginbench.runs.process_identity import process_identity
from marginbench.runs.results import results
from marginbench.runs.run_files import FILES
from marginbench.runs.run_folder import RunFolder
from marginbench.runs.suite_runs import SuiteRun
from tests.conftest import tiny_cell, train_cell

NAMES = (*FILES, "log.txt", "lease-1.json")
# What a finished cell's numbers and figures are read from.
BEARING = ("result.json", "cell.json", "history.jsonl", "evaluation.npz")


def put_full_directory(path):
    path.mkdir()
    (path / "file").touch()


OBSTACLES = {
    "directory": lambda path: path.mkdir(),
    "directory with a file": put_full_directory,
    "link to itself": lambda path: path.symlink_to(path),
    "link to nothing": lambda path: path.symlink_to(path.with_name("nothing")),
    "link to a directory": lambda path: path.symlink_to(path.parent),
    "pipe": lambda path: os.mkfifo(path),
}
WRONG_OWNER = {"machine": 1, "host": [], "pid": "x", "started": None}
CONTENTS = {
    "empty": b"",
    "half": b'{"key": "ab',
    "list": b"[]",
    "object": b"{}",
    "number": b"7",
    "deep list": b"[" * 100_000,
    "deep object": b'{"progress": ' * 100_000,
    "not UTF-8": b"\xff\xfe",
    "half a surrogate pair": b'{"error": "\\ud800", "owner": {"host": "\\ud800"}}',
    "numbers that are none": b'{"iteration": NaN, "error": Infinity}',
    "wrong types": json.dumps(
        {
            "key": 3,
            "outcome": [],
            "error": {"a": 1},
            "final": "yes",
            "attempt": ["x"],
            "end": 1,
            "owner": WRONG_OWNER,
            "released": 0,
            "progress": {"iteration": "x"},
        }
    ).encode(),
    "owner without a process": b'{"owner": {}, "released": false, "progress": {}}',
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    train_cell(tiny_cell(), folder)
    return folder


@pytest.fixture
def suite_run(trained, tmp_path):
    """A finished cell, a failed one that has begun, and one that is not there."""
    folder = tmp_path / "suite"
    shutil.copytree(trained, folder)
    cells = [tiny_cell(seed=seed) for seed in range(3)]
    suite = Suite("tested", "a suite", "nothing", 2, "softmax", None, lambda seeds: cells)
    run = SuiteRun(suite, folder, [RunFolder(folder, cell) for cell in cells], len(cells))
    failed = run.runs[1]
    failed.create()
    failed.write_failure("it broke", "")
    failed.checkpoint.touch()
    assert [one.status().state for one in run.runs] == ["done", "failed", "not started"]
    return run


def inspect_in_every_way(suite_run, monkeypatch):
    """The states of the cells, the same whether the files are read whole or not."""
    console = Console(file=io.StringIO(), width=200)
    thorough = inspect_suite(suite_run)
    console.print(status_table(suite_run, thorough))
    assert list(results(suite_run)["state"]) == [cell.status.state for cell in thorough.cells]
    with monkeypatch.context() as patch:
        patch.setattr(inspection, "THOROUGH_CELLS", 0)
        quick = inspect_suite(suite_run)
        console.print(status_table(suite_run, quick))
    console.file.getvalue().encode()
    return [cell.status for cell in thorough.cells], [cell.status for cell in quick.cells]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", OBSTACLES)
@pytest.mark.parametrize("which", [0, 1])
def test_what_is_no_file_damages_that_cell_alone(which, kind, name, suite_run, monkeypatch):
    path = suite_run.runs[which].path / name
    path.unlink(missing_ok=True)
    OBSTACLES[kind](path)
    expected = [State.DONE, State.FAILED, State.NOT_STARTED]
    expected[which] = State.DAMAGED
    thorough, quick = inspect_in_every_way(suite_run, monkeypatch)
    assert [status.state for status in thorough] == expected
    assert [status.state for status in quick] == expected
    assert str(path) in thorough[which].message
    assert str(path) in quick[which].message
    assert fingerprint(suite_run, thorough, None)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", CONTENTS)
def test_content_that_does_not_read_costs_a_finished_cell_what_it_bears(
    kind, name, suite_run, monkeypatch
):
    path = suite_run.runs[0].path / name
    path.write_bytes(CONTENTS[kind])
    (thorough, *others), (quick, *_) = inspect_in_every_way(suite_run, monkeypatch)
    if name in BEARING:
        assert thorough.state == State.DAMAGED
        assert str(path) in thorough.message
    else:
        assert thorough.state == State.DONE
    assert quick.state == (State.DAMAGED if name == "result.json" else State.DONE)
    assert [status.state for status in others] == [State.FAILED, State.NOT_STARTED]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", CONTENTS)
def test_content_that_does_not_read_costs_an_unfinished_cell_no_more_than_its_try(
    kind, name, suite_run, monkeypatch
):
    path = suite_run.runs[1].path / name
    path.write_bytes(CONTENTS[kind])
    (done, thorough, fresh), _ = inspect_in_every_way(suite_run, monkeypatch)
    if name in ("result.json", "cell.json"):
        assert thorough.state == State.DAMAGED
        assert str(path) in thorough.message
    elif name == "lease-1.json":
        assert thorough.state == State.RUNNING
        assert thorough.message == "an unknown process (lease-1.json is damaged)"
    else:
        assert thorough.state == State.FAILED
    assert (done.state, fresh.state) == (State.DONE, State.NOT_STARTED)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("which", [0, 1])
def test_a_file_that_is_not_to_be_read_damages_that_cell_at_most(
    which, name, suite_run, monkeypatch
):
    path = suite_run.runs[which].path / name
    if not path.exists():
        path.write_bytes(b"{}")
    opens = os.open

    def refusing(file, *arguments, **named):
        if str(file) == str(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opens(file, *arguments, **named)

    monkeypatch.setattr(os, "open", refusing)
    thorough, _ = inspect_in_every_way(suite_run, monkeypatch)
    expected = [State.DONE, State.FAILED, State.NOT_STARTED]
    changed = thorough.pop(which)
    del expected[which]
    assert [status.state for status in thorough] == expected
    read = BEARING if which == 0 else ("result.json", "cell.json", "failure.json", "lease-1.json")
    if name in read:
        assert changed.state in (State.DAMAGED, State.FAILED)
        assert "Permission denied" in changed.message


@pytest.mark.parametrize("kind", [*OBSTACLES, "file"])
def test_a_run_folder_that_is_none_is_damaged(kind, suite_run, monkeypatch):
    path = suite_run.runs[1].path
    shutil.rmtree(path)
    if kind == "file":
        path.touch()
    else:
        OBSTACLES[kind](path)
    thorough, quick = inspect_in_every_way(suite_run, monkeypatch)
    # An empty folder, or one with a file that means nothing, is no damage.
    expected = State.NOT_STARTED if "directory" in kind else State.DAMAGED
    for one in (thorough, quick):
        assert [status.state for status in one] == [State.DONE, expected, State.NOT_STARTED]


def test_a_run_folder_that_is_not_to_be_listed_is_damaged(suite_run, monkeypatch):
    scandir = os.scandir

    def refusing(path):
        if str(path) == str(suite_run.runs[1].path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    thorough, quick = inspect_in_every_way(suite_run, monkeypatch)
    for one in (thorough, quick):
        assert [status.state for status in one] == ["done", "damaged", "not started"]
        assert "Permission denied" in one[1].message


@pytest.mark.parametrize("progress", [{"started": 0.0}, {"iteration": 3}, {"started": 1, "of": 2}])
def test_progress_that_lacks_something_is_shown_without_a_pace(progress, suite_run, monkeypatch):
    folder = suite_run.runs[1]
    content = {"owner": process_identity(os.getpid()), "released": False, "progress": progress}
    (folder.path / "lease-1.json").write_text(json.dumps(content))
    thorough, _ = inspect_in_every_way(suite_run, monkeypatch)
    assert thorough[1].state == State.RUNNING


@pytest.mark.parametrize("name", ["lease-01.json", "lease-\u0663.json", "lease-x.json"])
def test_a_file_that_is_only_called_like_a_lease_is_none(name, suite_run, monkeypatch):
    (suite_run.runs[1].path / name).write_text("{}")
    thorough, _ = inspect_in_every_way(suite_run, monkeypatch)
    assert thorough[1].state == State.FAILED


def test_clearing_removes_nothing_where_it_cannot_remove_all(suite_run):
    folder = suite_run.runs[0]
    (folder.path / "failure.json").mkdir()
    with pytest.raises(Exception, match=r"failure\.json is damaged: it is not a file"):
        folder.clear()
    (folder.path / "failure.json").rmdir()
    assert folder.status().state == State.DONE
