"""What a worker process does: train one cell, and leave word of how it went in the run folder."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from marginbench.cells import Cell
from marginbench.environment import own_environment
from marginbench.errors import DamagedFile, UserError
from marginbench.lease import Lease
from marginbench.plugins import load_plugin_file
from marginbench.store import FINISHED, RunFolder, State

FINISHED_STATUS = 0
FAILED_STATUS = 1
BUSY_STATUS = 3
STOPPED_STATUS = 4


@dataclass(frozen=True)
class Order:
    """What to train and how, small and picklable.

    Attributes:
        cell: resolved.
        suite_folder: ``RUNS/SUITE``.
        plugin_files: to load first.
        device: "auto", "cpu", "cuda" or "cuda:N".
        threads: of torch on the CPU. Part of what makes a run repeatable to the bit.
        checkpoint_seconds: see :func:`marginbench.training.train`.
        renew_seconds: how often the lease is renewed and the progress told.
        force: train anew even if there is a result or a checkpoint.
        environment: the project's own variables (where the data is, say) as they are now; the
            server that workers are forked from may have been started under others.
    """

    cell: Cell
    suite_folder: Path
    plugin_files: tuple[Path, ...] = ()
    device: str = "auto"
    threads: int = 1
    checkpoint_seconds: float = 60.0
    renew_seconds: float = 1.0
    force: bool = False
    environment: dict[str, str] = field(default_factory=own_environment)


def work(order: Order) -> int:
    """Train the order's cell in this process.

    Returns:
        FINISHED_STATUS: the cell has a result, a divergence included. FAILED_STATUS: failure.json
        says why not. BUSY_STATUS: another process trains it. STOPPED_STATUS: a SIGTERM came, the
        checkpoint is written.
    """
    stop_asked = False

    def ask_to_stop(number: int, frame: types.FrameType | None) -> None:
        nonlocal stop_asked
        stop_asked = True

    signal.signal(signal.SIGTERM, ask_to_stop)
    # Ctrl-C reaches the whole process group; the parent passes on what it means by a SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    folder = RunFolder(order.suite_folder, order.cell)
    folder.path.mkdir(parents=True, exist_ok=True)
    lease = Lease.acquire(folder.path, order.renew_seconds)
    if lease is None:
        return BUSY_STATUS
    with lease:
        return _work_under_lease(order, folder, lease, lambda: stop_asked)


def work_in_child(order: Order) -> None:
    """:func:`work` as the whole life of a child process, its output in the run folder's log."""
    for name in own_environment():
        del os.environ[name]
    os.environ.update(order.environment)
    folder = RunFolder(order.suite_folder, order.cell)
    folder.path.mkdir(parents=True, exist_ok=True)
    with folder.log.open("ab", buffering=0) as log:
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())
    print(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} process {os.getpid()}", flush=True)
    status = work(order)
    sys.stdout.flush()
    sys.exit(status)


def _work_under_lease(
    order: Order, folder: RunFolder, lease: Lease, should_stop: Callable[[], bool]
) -> int:
    # Imported here: a parent that only hands out orders need not load torch.
    import torch

    from marginbench.training import Interrupted, choose_device, train

    try:
        if order.force:
            folder.clear()
        stored = folder.stored_status()
        if stored.state in FINISHED:
            return FINISHED_STATUS
        if stored.state == State.DAMAGED:
            return FAILED_STATUS
        folder.create()
        folder.forget_failure()
        for file in order.plugin_files:
            load_plugin_file(file)
        torch.set_num_threads(order.threads)
        train(
            order.cell,
            folder,
            lease,
            device=choose_device(order.device),
            checkpoint_seconds=order.checkpoint_seconds,
            should_stop=should_stop,
        )
    except Interrupted:
        print("stopped; the checkpoint is written", flush=True)
        return STOPPED_STATUS
    except Exception as error:
        text = traceback.format_exc()
        print(text, flush=True)
        message = str(error) if isinstance(error, UserError) else _one_line(error)
        if isinstance(error, DamagedFile):
            message += "; move or delete it, or use --force, to train this cell from the start"
        folder.write_failure(message, text, final=isinstance(error, UserError))
        return FAILED_STATUS
    return FINISHED_STATUS


def _one_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
