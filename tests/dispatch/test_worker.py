"""Workers: what they leave where a folder cannot be written, a lease is lost, or a parent dies."""

import ctypes
import errno
import io
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
from rich.console import Console

from marginbench.command_line.live_display import LiveDisplay
from marginbench.dispatch import local as local_dispatch
from marginbench.dispatch.local import DispatchProgress, run_locally
from marginbench.dispatch.worker import (
    BUSY_STATUS,
    FAILED_STATUS,
    FINISHED_STATUS,
    TrainingTask,
    claim,
    run_recording_failure,
)
from marginbench.dispatch.worker_process import how_it_ended, work_in_child
from marginbench.runs.cell_status import State
from marginbench.runs.lease import Lease
from marginbench.runs.lease_state import EXPIRY_SECONDS, RENEW_SECONDS, read_lease
from marginbench.runs.run_folder import RunFolder
from tests.conftest import tiny_cell, train_cell

FORK = multiprocessing.get_context("fork")
PATIENCE = 120


def task_of(cell, suite_folder, **more):
    return TrainingTask(cell=cell, suite_folder=suite_folder, device="cpu", **more)


def run_in_child(task, iteration=None):
    """The exit status of a worker."""
    child = FORK.Process(target=work_in_child, args=(task, iteration))
    child.start()
    child.join(PATIENCE)
    assert child.exitcode is not None
    return child.exitcode


@pytest.fixture
def dispatch(monkeypatch):
    """Cells trained by processes forked from this one: what is patched here is patched there."""
    monkeypatch.setattr(local_dispatch, "_process_context", lambda tasks: FORK)
    monkeypatch.setattr(local_dispatch, "BUSY_RETRY_SECONDS", 0.05)
    monkeypatch.setattr(local_dispatch, "POLL_SECONDS", 0.02)

    def call(tasks, show=lambda progress: None):
        progress = run_locally(tasks, 1, show)
        return {folder.key: status for folder, status in progress.ended}

    return call


def fill_the_disk(monkeypatch, folder):
    """No file below a folder can be opened for writing, by this process and those it forks."""
    opens, opens_low = io.open, os.open

    def full(path):
        if Path(os.fspath(path)).is_relative_to(folder):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

    def refuse(file, mode="r", *arguments, **named):
        if not isinstance(file, int) and set(mode) & set("wax+"):
            full(file)
        return opens(file, mode, *arguments, **named)

    def refuse_low(path, flags, *arguments, **named):
        if flags & (os.O_WRONLY | os.O_RDWR):
            full(path)
        return opens_low(path, flags, *arguments, **named)

    monkeypatch.setattr(io, "open", refuse)
    monkeypatch.setattr(os, "open", refuse_low)


def test_a_full_disk_costs_the_cell_that_it_meets(tmp_path, dispatch, monkeypatch, capfd):
    cells = [tiny_cell(seed=seed) for seed in (0, 1)]
    fill_the_disk(monkeypatch, RunFolder(tmp_path, cells[0]).path)
    ended = dispatch([task_of(cell, tmp_path) for cell in cells])
    assert ended[cells[0].key].state == State.FAILED
    assert "No space left on device" in ended[cells[0].key].message
    assert ended[cells[1].key].state == State.DONE
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_folder_that_cannot_be_made_costs_its_cell(tmp_path, dispatch, capfd):
    cells = [tiny_cell(seed=seed) for seed in (0, 1)]
    RunFolder(tmp_path, cells[0]).path.touch()
    ended = dispatch([task_of(cell, tmp_path) for cell in cells])
    assert ended[cells[0].key].state == State.DAMAGED
    assert "it is not a folder" in ended[cells[0].key].message
    assert ended[cells[1].key].state == State.DONE
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_cell_is_trained_where_only_its_log_cannot_be_opened(tmp_path, dispatch, monkeypatch):
    cell = tiny_cell()
    opens = os.open

    def refuse(path, *arguments, **named):
        if Path(path).name == "log.txt":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opens(path, *arguments, **named)

    monkeypatch.setattr(os, "open", refuse)
    ended = dispatch([task_of(cell, tmp_path)])
    assert ended[cell.key].state == State.DONE


@pytest.mark.parametrize("name", ["failure.json", "log.txt", "history.jsonl", "lease-9.json"])
def test_force_deletes_no_result_where_another_place_is_taken(name, tmp_path, dispatch):
    cell = tiny_cell()
    _, folder = train_cell(cell, tmp_path)
    kept = (folder.path / "result.json").read_bytes()
    (folder.path / name).unlink(missing_ok=True)
    (folder.path / name).mkdir()
    ended = dispatch([task_of(cell, tmp_path, force=True)])
    assert ended[cell.key].state == State.DAMAGED
    assert f"{name} is damaged: it is not a file" in ended[cell.key].message
    assert (folder.path / "result.json").read_bytes() == kept


def test_force_that_cannot_delete_the_result_is_no_success(tmp_path, dispatch, monkeypatch):
    cell = tiny_cell()
    _, folder = train_cell(cell, tmp_path)
    kept = (folder.path / "result.json").read_bytes()
    unlink = Path.unlink

    def refuse(path, *arguments, **named):
        if path.name == "result.json":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        unlink(path, *arguments, **named)

    monkeypatch.setattr(Path, "unlink", refuse)
    ended = dispatch([task_of(cell, tmp_path, force=True)])
    assert ended[cell.key].state == State.FAILED
    assert "Permission denied" in ended[cell.key].message
    assert (folder.path / "result.json").read_bytes() == kept
    assert (folder.path / "history.jsonl").exists()


def test_force_trains_anew_what_is_whole(tmp_path, dispatch):
    cell = tiny_cell()
    _, folder = train_cell(cell, tmp_path)
    written = (folder.path / "result.json").stat().st_mtime_ns
    ended = dispatch([task_of(cell, tmp_path, force=True)])
    assert ended[cell.key].state == State.DONE
    assert (folder.path / "result.json").stat().st_mtime_ns > written


@pytest.mark.parametrize("error", [RuntimeError("it broke"), OSError(errno.ENOENT, "gone")])
def test_who_has_lost_the_lease_leaves_no_word_in_the_folder(error, tmp_path):
    folder = RunFolder(tmp_path, tiny_cell())
    folder.create()
    with Lease.acquire(folder.path) as lease:

        def lose_it():
            text = (folder.path / "lease-1.json").read_text()
            (folder.path / "lease-2.json").write_text(text)
            lease.check()
            raise error

        assert run_recording_failure(folder, lease, lose_it) == BUSY_STATUS
    assert folder.read_failure() is None


def test_what_goes_wrong_with_the_lease_held_is_reported_in_the_folder(tmp_path):
    folder = RunFolder(tmp_path, tiny_cell())
    folder.create()

    def fail():
        raise RuntimeError("it broke")

    with Lease.acquire(folder.path) as lease:
        assert run_recording_failure(folder, lease, fail) == FAILED_STATUS
    assert folder.read_failure()["error"] == "RuntimeError: it broke"


def test_a_shared_file_system_sees_a_write_in_ten_seconds(tmp_path, monkeypatch):
    rates = []
    monkeypatch.setattr(Lease, "_renew", lambda lease, every: rates.append(every))
    cell = tiny_cell()
    lease = claim(task_of(cell, tmp_path), RunFolder(tmp_path, cell), lambda progress: None)
    lease.release()
    assert rates == [RENEW_SECONDS]
    assert 10 <= RENEW_SECONDS < EXPIRY_SECONDS / 3


def test_the_parent_sees_how_far_a_cell_is(tmp_path):
    iteration = FORK.RawValue(ctypes.c_longlong, 0)
    assert run_in_child(task_of(tiny_cell(), tmp_path), iteration) == FINISHED_STATUS
    assert iteration.value == 24


def test_the_log_of_a_cell_that_another_process_trains_is_left_alone(tmp_path):
    cell = tiny_cell()
    folder = RunFolder(tmp_path, cell)
    folder.create()
    with Lease.acquire(folder.path):
        assert run_in_child(task_of(cell, tmp_path)) == BUSY_STATUS
    assert not folder.log.exists()


def test_a_cell_that_another_process_trains_is_waited_for_aloud(tmp_path, dispatch):
    cell = tiny_cell()
    folder = RunFolder(tmp_path, cell)
    folder.create()
    lease = Lease.acquire(folder.path)
    console = Console(file=io.StringIO(), width=200)
    display = LiveDisplay(console, 1)
    seen = []

    def show(progress):
        display(progress)
        seen.append(dict(progress.busy))
        if len(seen) == 10:
            lease.release()

    ended = dispatch([task_of(cell, tmp_path)], show)
    assert ended[cell.key].state == State.DONE
    assert folder.log.read_text().count("--- ") == 1
    who = f"running {folder.path.name}: process {os.getpid()} on "
    assert console.file.getvalue().count(who) == 1
    assert all(cell.key in busy for busy in seen[:10])
    assert seen[-1] == {}


def test_progress_is_shown_without_reading_any_file(tmp_path):
    folder = RunFolder(tmp_path / "nowhere", tiny_cell())
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with LiveDisplay(console, 1) as display:
        display(DispatchProgress(1, active=[folder], iterations={folder.key: 17}))
    assert "17/24" in console.file.getvalue()


def test_a_process_may_be_killed_by_a_signal_without_a_name(tmp_path):
    folder = RunFolder(tmp_path, tiny_cell())
    assert how_it_ended(folder, -signal.SIGTERM) == "its process was killed by SIGTERM"
    assert how_it_ended(folder, -(signal.SIGRTMIN + 3)) == "its process was killed by signal 37"


def parent_of(task):
    """A process with a worker as its child; it does nothing but wait."""
    child = FORK.Process(target=work_in_child, args=(task,))
    child.start()
    child.join()


def wait_for(condition, what):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


def test_a_worker_whose_parent_is_killed_writes_its_checkpoint_and_ends(tmp_path):
    cell = tiny_cell(iterations=100_000)
    folder = RunFolder(tmp_path, cell)
    parent = FORK.Process(target=parent_of, args=(task_of(cell, tmp_path),))
    parent.start()
    wait_for(lambda: folder.log.exists() and "training from" in folder.log.read_text(), "training")
    worker = read_lease(folder.path).owner["pid"]
    try:
        parent.kill()
        parent.join()
        wait_for(lambda: read_lease(folder.path).released, "the worker's end")
        assert folder.status().state == State.STOPPED
    finally:
        if not read_lease(folder.path).released:
            os.kill(worker, signal.SIGKILL)
