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
from typing import TYPE_CHECKING

from marginbench.cells import Cell
from marginbench.environment import own_environment
from marginbench.errors import DamagedFile, UserError, one_line
from marginbench.lease import Lease
from marginbench.plugins import load_plugin_file
from marginbench.store import FINISHED, RunFolder, State

if TYPE_CHECKING:
    import torch

    from marginbench.ranks import Ranks

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
    renew_seconds: float = 1.0
    force: bool = False
    rank: int = 0
    ranks: int = 1
    address: str | None = None
    environment: dict[str, str] = field(default_factory=own_environment)


def work(order: Order) -> int:
    """Train the order's cell in this process.

    Returns:
        FINISHED_STATUS: the cell has a result, a divergence included. FAILED_STATUS: failure.json
        says why not. BUSY_STATUS: another process trains it. STOPPED_STATUS: a SIGTERM came, the
        checkpoint is written. Of several ranks, rank 0 leaves the word.
    """
    stop_asked = False

    def ask_to_stop(number: int, frame: types.FrameType | None) -> None:
        nonlocal stop_asked
        stop_asked = True

    signal.signal(signal.SIGTERM, ask_to_stop)
    # Ctrl-C reaches the whole process group; the parent passes on what it means by a SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    folder = RunFolder(order.suite_folder, order.cell)

    def train_it(lease: Lease | None) -> None:
        from marginbench.ranks import Ranks, joined, local_device
        from marginbench.training import choose_device

        name = order.device
        if order.ranks > 1:
            name = local_device(name, order.rank, order.ranks)
        device = choose_device(name)
        with joined(Ranks(order.rank, order.ranks), device, order.address) as ranks:
            train_order(order, folder, lease, device, lambda: stop_asked, ranks)

    if order.rank > 0:
        return guarded(folder, None, lambda: train_it(None))
    folder.path.mkdir(parents=True, exist_ok=True)
    lease = Lease.acquire(folder.path, order.renew_seconds)
    if lease is None:
        return BUSY_STATUS
    with lease:
        if order.force:
            folder.clear()
        ended = ended_status(folder)
        return guarded(folder, lease, lambda: train_it(lease)) if ended is None else ended


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


def ended_status(folder: RunFolder) -> int | None:
    """The status to end with where there is nothing to train: done, or damaged; else None."""
    state = folder.stored_status().state
    if state in FINISHED:
        return FINISHED_STATUS
    return FAILED_STATUS if state == State.DAMAGED else None


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
        should_stop, begun: see :func:`marginbench.training.train`.
        ranks: connected.
    """
    # Imported here: a parent that only hands out orders need not load torch.
    import torch

    from marginbench.training import train

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
        lease: of the folder; without it, what goes wrong is printed only.
        body: trains.
    """
    from marginbench.training import Interrupted

    try:
        body()
    except Interrupted:
        print("stopped; the checkpoint is written", flush=True)
        return STOPPED_STATUS
    except Exception as error:
        text = traceback.format_exc()
        print(text, flush=True)
        message = one_line(error)
        if isinstance(error, DamagedFile):
            message += "; move or delete it, or use --force, to train this cell from the start"
        if lease is not None:
            folder.write_failure(message, text, final=isinstance(error, UserError))
        return FAILED_STATUS
    return FINISHED_STATUS
