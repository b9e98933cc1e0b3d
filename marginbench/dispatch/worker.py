"""What a worker process does: train one cell, and record in the run folder how it ended."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import traceback
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marginbench.errors import DamagedFile, UserError, one_line
from marginbench.experiments.cells import Cell
from marginbench.plugins.loading import load_plugin_file
from marginbench.runs.cell_status import FINISHED, State
from marginbench.runs.environment import own_environment
from marginbench.runs.lease import Lease
from marginbench.runs.run_folder import RunFolder

if TYPE_CHECKING:
    import torch

    from marginbench.training.ranks import Ranks

FINISHED_STATUS = 0
FAILED_STATUS = 1
BUSY_STATUS = 3
STOPPED_STATUS = 4
UNUSABLE_STATUS = 5

ProgressCallback = Callable[[dict[str, Any]], None]
GiveBack = Callable[[str], None]


@dataclass(frozen=True)
class TrainingTask:
    """What to train and how, small and picklable.

    Attributes:
        cell: resolved.
        suite_folder: ``RUNS/SUITE``.
        plugin_files: to load first.
        device: "auto", "cpu", "cuda" or "cuda:N".
        threads: of torch and numpy on the CPU. Part of what makes a run repeatable to the bit.
        checkpoint_seconds: see :func:`marginbench.training.loop.train`.
        force: train anew even if there is a result or a checkpoint.
        rank, ranks: which of how many processes of this machine this one is that train the cell
            together.
        address: "tcp://HOST:PORT" where the ranks meet.
        environment: the project's own variables (where the data is, say) as they are now; the
            server that workers are forked from may have been started under others.
        give_back: see :func:`run_recording_failure`; None, or the task is not picklable.
    """

    cell: Cell
    suite_folder: Path
    plugin_files: tuple[Path, ...] = ()
    device: str = "auto"
    threads: int = 1
    checkpoint_seconds: float = 60.0
    force: bool = False
    rank: int = 0
    ranks: int = 1
    address: str | None = None
    environment: dict[str, str] = field(default_factory=own_environment)
    give_back: GiveBack | None = None


def work(
    task: TrainingTask, on_progress: ProgressCallback = lambda progress: None, *, log: bool = False
) -> int:
    """Train the task's cell in this process.

    Args:
        task: its cell, and how.
        on_progress: see :meth:`marginbench.runs.lease.Lease.acquire`.
        log: whether what is printed goes to the run folder's log, once the lease is acquired.

    Returns:
        FINISHED_STATUS: the cell has a result, a divergence included. FAILED_STATUS: failure.json
        says why not, or the folder is damaged or cannot be written. BUSY_STATUS: another process
        trains it. UNUSABLE_STATUS: ``give_back`` was called. STOPPED_STATUS: a SIGTERM came, the
        checkpoint is written. Of several ranks, rank 0 records it.
    """
    stop_asked = False

    def ask_to_stop(number: int, frame: types.FrameType | None) -> None:
        nonlocal stop_asked
        stop_asked = True

    signal.signal(signal.SIGTERM, ask_to_stop)
    # Ctrl-C reaches the whole process group; the parent passes on what it means by a SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    folder = RunFolder(task.suite_folder, task.cell)
    lease = None
    if task.rank == 0:
        claimed = claim(task, folder, on_progress)
        if isinstance(claimed, int):
            return claimed
        lease = claimed
    if log:
        _print_to(folder.log)

    def train_it() -> None:
        from marginbench.training.devices import choose_device
        from marginbench.training.ranks import Ranks, joined, local_device

        if task.force and lease is not None:
            folder.clear()
        name = task.device
        if task.ranks > 1:
            name = local_device(name, task.rank, task.ranks)
        device = choose_device(name)
        with joined(Ranks(task.rank, task.ranks), device, task.address) as ranks:
            train_task(task, folder, lease, device, lambda: stop_asked, ranks)

    with lease or contextlib.nullcontext():
        return run_recording_failure(folder, lease, train_it, task.give_back)


def _print_to(path: Path) -> None:
    """Append what this process prints to a file; nowhere, if the file cannot be opened."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    try:
        file = os.open(path, flags, 0o644)
    except OSError:
        file = os.open(os.devnull, flags)
    os.dup2(file, sys.stdout.fileno())
    os.dup2(file, sys.stderr.fileno())
    os.close(file)
    _print(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} process {os.getpid()}")


def claim(task: TrainingTask, folder: RunFolder, on_progress: ProgressCallback) -> Lease | int:
    """The lease of a task's folder, or the status to end with where it is not to be trained.

    That is FINISHED_STATUS (there is a result), BUSY_STATUS (another process trains it) or
    FAILED_STATUS (the folder is damaged, or cannot be written).
    """
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.check_files()
        lease = Lease.acquire(folder.path, on_progress=on_progress)
    except DamagedFile:
        return FAILED_STATUS
    except OSError as error:
        return _fail(folder, f"{folder.path} cannot be written: {error.strerror or error}", "")
    if lease is None:
        return BUSY_STATUS
    state = folder.stored_status().state
    if task.force or state not in (*FINISHED, State.DAMAGED):
        return lease
    lease.release()
    return FINISHED_STATUS if state in FINISHED else FAILED_STATUS


def train_task(
    task: TrainingTask,
    folder: RunFolder,
    lease: Lease | None,
    device: torch.device,
    should_stop: Callable[[], bool],
    ranks: Ranks,
    begun: Callable[[], None] = lambda: None,
) -> None:
    """Train the task's cell, on one of connected ranks; rank 0 has the folder's lease.

    See :func:`marginbench.training.loop.train`; a cell that was begun goes on.
    """
    # Imported here: a parent that only starts processes need not load torch.
    from marginbench.training.devices import use_threads
    from marginbench.training.loop import train

    def prepare() -> None:
        if lease is not None:
            folder.create()
            folder.forget_failure()
        for file in task.plugin_files:
            load_plugin_file(file)

    ranks.all_or_none(prepare)
    use_threads(task.threads)
    train(
        task.cell,
        folder,
        lease,
        device=device,
        checkpoint_seconds=task.checkpoint_seconds,
        should_stop=should_stop,
        ranks=ranks,
        begun=begun,
    )


def run_recording_failure(
    folder: RunFolder,
    lease: Lease | None,
    body: Callable[[], None],
    give_back: GiveBack | None = None,
) -> int:
    """Train by ``body``, and record an exception in the run folder; the status to end with.

    Without a lease, the exception is printed only; if it was lost, the status is BUSY_STATUS.
    If the machine's GPU is at fault, ``give_back`` gets the reason, and the cell no failure.
    """
    from marginbench.training.devices import device_fault
    from marginbench.training.loop import Interrupted

    try:
        body()
    except Interrupted:
        _print("stopped; the checkpoint is written")
        return STOPPED_STATUS
    except Exception as error:
        text = traceback.format_exc()
        _print(text)
        message = one_line(error)
        if give_back is not None and (fault := device_fault(error)) is not None:
            give_back(fault)
            return UNUSABLE_STATUS
        if isinstance(error, DamagedFile):
            message += "; move or delete it, or use --force, to train this cell from the start"
        if lease is None:
            return FAILED_STATUS
        with contextlib.suppress(OSError):
            if not lease.held():
                # The folder is another process's: this exception is no part of its state.
                return BUSY_STATUS
        return _fail(folder, message, text, final=isinstance(error, UserError))
    return FINISHED_STATUS


def _fail(folder: RunFolder, message: str, text: str, *, final: bool = False) -> int:
    """Write failure.json, if the folder can be written; the status to end with."""
    with contextlib.suppress(OSError):
        folder.write_failure(message, text, final=final)
    return FAILED_STATUS


def _print(text: str) -> None:
    """Print, also where the disk is full: then the text is lost, and nothing else."""
    with contextlib.suppress(OSError):
        print(text, flush=True)
