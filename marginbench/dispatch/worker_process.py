"""The process of a worker: its environment, its end with its parent, and what its end means."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from typing import Any

from marginbench.dispatch.worker import FINISHED_STATUS, STOPPED_STATUS, TrainingTask, work
from marginbench.runs.cell_status import FINISHED, CellStatus, State
from marginbench.runs.environment import own_environment
from marginbench.runs.run_folder import RunFolder


def work_in_child(task: TrainingTask, iteration: ctypes.c_longlong | None = None) -> None:
    """:func:`work` as the whole life of a child process, its output in the run folder's log.

    ``iteration`` is in memory shared with the parent, for it to see how far the cell is.
    """
    for name in own_environment():
        del os.environ[name]
    os.environ.update(task.environment)
    _stop_with_parent()

    def on_progress(progress: dict[str, Any]) -> None:
        if iteration is not None:
            iteration.value = progress["iteration"]

    status = work(task, on_progress, log=True)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    sys.exit(status)


def _stop_with_parent() -> None:
    """Where the parent dies, nobody waits for this process: it writes its checkpoint and ends."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def stop_after_it() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop_after_it, daemon=True).start()


def status_after(folder: RunFolder, exit_status: int, *, forced: bool = False) -> CellStatus:
    """What has become of a cell whose process ended; an end without a record is a failure.

    Args:
        folder: the cell's.
        exit_status: see :func:`work`; −N for a process killed by signal N.
        forced: whether a result that was there was to be replaced.
    """
    status = folder.status()
    if forced and status.state in FINISHED and exit_status != FINISHED_STATUS:
        # The result is the one that was to be replaced.
        failure = folder.read_failure() or {"error": how_it_ended(folder, exit_status)}
        return CellStatus(State.FAILED, failure["error"])
    if status.state in (*FINISHED, State.RUNNING):
        return status
    unrecorded = (
        status.state in (State.NOT_STARTED, State.STOPPED) and exit_status != STOPPED_STATUS
    )
    if exit_status >= 0 and not unrecorded:
        return status
    error = how_it_ended(folder, exit_status)
    try:
        folder.write_failure(error, "")
    except OSError as problem:
        reason = problem.strerror or problem
        return CellStatus(State.FAILED, f"{error}; {folder.path} cannot be written: {reason}")
    return folder.status()


def how_it_ended(folder: RunFolder, exit_status: int) -> str:
    """A process's end in words; see :func:`status_after`."""
    if exit_status >= 0:
        return f"its process ended with status {exit_status}; see {folder.log}"
    names = {number.value: number.name for number in signal.Signals}
    name = names.get(-exit_status, f"signal {-exit_status}")
    memory = " (out of memory?)" if name == "SIGKILL" else ""
    return f"its process was killed by {name}{memory}"
