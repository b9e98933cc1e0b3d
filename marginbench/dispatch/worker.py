"""What a worker process does: train one cell, and leave word of how it went in the run folder."""

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
from marginbench.runs.environment import own_environment
from marginbench.runs.lease import Lease
from marginbench.runs.run_folder import FINISHED, RunFolder, State

if TYPE_CHECKING:
    import torch

    from marginbench.training.ranks import Ranks

FINISHED_STATUS = 0
FAILED_STATUS = 1
BUSY_STATUS = 3
STOPPED_STATUS = 4

Told = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Order:
    """What to train and how, small and picklable.

    Attributes:
        cell: resolved.
        suite_folder: ``RUNS/SUITE``.
        plugin_files: to load first.
        device: "auto", "cpu", "cuda" or "cuda:N".
        threads: of torch on the CPU. Part of what makes a run repeatable to the bit.
        checkpoint_seconds: see :func:`marginbench.training.loop.train`.
        force: train anew even if there is a result or a checkpoint.
        rank, ranks: which of how many processes of this machine this one is that train the cell
            together.
        address: "tcp://HOST:PORT" where the ranks meet.
        environment: the project's own variables (where the data is, say) as they are now; the
            server that workers are forked from may have been started under others.
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


def work(order: Order, told: Told = lambda progress: None, *, log: bool = False) -> int:
    """Train the order's cell in this process.

    Args:
        order: see there.
        told: see :meth:`marginbench.runs.lease.Lease.acquire`.
        log: whether what is printed goes to the run folder's log, once the cell is this process's.

    Returns:
        FINISHED_STATUS: the cell has a result, a divergence included. FAILED_STATUS: failure.json
        says why not, or the folder is damaged or cannot be written. BUSY_STATUS: another process
        trains it. STOPPED_STATUS: a SIGTERM came, the checkpoint is written. Of several ranks,
        rank 0 leaves the word.
    """
    stop_asked = False

    def ask_to_stop(number: int, frame: types.FrameType | None) -> None:
        nonlocal stop_asked
        stop_asked = True

    signal.signal(signal.SIGTERM, ask_to_stop)
    # Ctrl-C reaches the whole process group; the parent passes on what it means by a SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    folder = RunFolder(order.suite_folder, order.cell)
    lease = None
    if order.rank == 0:
        claimed = claim(order, folder, told)
        if isinstance(claimed, int):
            return claimed
        lease = claimed
    if log:
        _print_to(folder.log)

    def train_it() -> None:
        from marginbench.training.loop import choose_device
        from marginbench.training.ranks import Ranks, joined, local_device

        if order.force and lease is not None:
            folder.clear()
        name = order.device
        if order.ranks > 1:
            name = local_device(name, order.rank, order.ranks)
        device = choose_device(name)
        with joined(Ranks(order.rank, order.ranks), device, order.address) as ranks:
            train_order(order, folder, lease, device, lambda: stop_asked, ranks)

    with lease or contextlib.nullcontext():
        return guarded(folder, lease, train_it)


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
    _say(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} process {os.getpid()}")


def claim(order: Order, folder: RunFolder, told: Told) -> Lease | int:
    """The lease of an order's folder, or the status to end with where it is not to be trained.

    Args:
        order: see there.
        folder: the cell's.
        told: see :meth:`marginbench.runs.lease.Lease.acquire`.

    Returns:
        The lease, or FINISHED_STATUS (there is a result), BUSY_STATUS (another process trains it)
        or FAILED_STATUS (the folder is damaged, or cannot be written).
    """
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.check_files()
        lease = Lease.acquire(folder.path, told=told)
    except DamagedFile:
        return FAILED_STATUS
    except OSError as error:
        return _fail(folder, f"{folder.path} cannot be written: {error.strerror or error}", "")
    if lease is None:
        return BUSY_STATUS
    state = folder.stored_status().state
    if order.force or state not in (*FINISHED, State.DAMAGED):
        return lease
    lease.release()
    return FINISHED_STATUS if state in FINISHED else FAILED_STATUS


def train_order(
    order: Order,
    folder: RunFolder,
    lease: Lease | None,
    device: torch.device,
    should_stop: Callable[[], bool],
    ranks: Ranks,
    begun: Callable[[], None] = lambda: None,
) -> None:
    """Train the order's cell from where its folder stands.

    Args:
        order: see there.
        folder: the cell's.
        lease: of the folder; None on a rank other than 0.
        device: where to train.
        should_stop, begun: see :func:`marginbench.training.loop.train`.
        ranks: connected.
    """
    # Imported here: a parent that only hands out orders need not load torch.
    import torch

    from marginbench.training.loop import train

    def prepare() -> None:
        if lease is not None:
            folder.create()
            folder.forget_failure()
        for file in order.plugin_files:
            load_plugin_file(file)

    ranks.all_or_none(prepare)
    torch.set_num_threads(order.threads)
    train(
        order.cell,
        folder,
        lease,
        device=device,
        checkpoint_seconds=order.checkpoint_seconds,
        should_stop=should_stop,
        ranks=ranks,
        begun=begun,
    )


def guarded(folder: RunFolder, lease: Lease | None, body: Callable[[], None]) -> int:
    """Do it, and leave word of what goes wrong; the status to end with.

    Args:
        folder: the cell's.
        lease: of the folder; without it, what goes wrong is printed only. Where it was lost, the
            status is BUSY_STATUS.
        body: trains.
    """
    from marginbench.training.loop import Interrupted

    try:
        body()
    except Interrupted:
        _say("stopped; the checkpoint is written")
        return STOPPED_STATUS
    except Exception as error:
        text = traceback.format_exc()
        _say(text)
        message = one_line(error)
        if isinstance(error, DamagedFile):
            message += "; move or delete it, or use --force, to train this cell from the start"
        if lease is None:
            return FAILED_STATUS
        with contextlib.suppress(OSError):
            if not lease.held():
                # The folder is another process's: what went wrong here is none of its state.
                return BUSY_STATUS
        return _fail(folder, message, text, final=isinstance(error, UserError))
    return FINISHED_STATUS


def _fail(folder: RunFolder, message: str, text: str, *, final: bool = False) -> int:
    """Leave word of a failure, if the folder takes it; the status to end with."""
    with contextlib.suppress(OSError):
        folder.write_failure(message, text, final=final)
    return FAILED_STATUS


def _say(text: str) -> None:
    """Print, also where the disk is full: then the words are lost, and nothing else."""
    with contextlib.suppress(OSError):
        print(text, flush=True)
