"""Running cells here: one process a cell, so many at a time.

Every cell gets a process of its own, forked from a server that has torch loaded already: cheap to
start, and a cell that crashes or is killed takes nothing with it. What became of a cell is read
from its run folder; the processes tell only that they ended.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

from marginbench.store import FINISHED, CellStatus, RunFolder, State
from marginbench.worker import BUSY_STATUS, STOPPED_STATUS, Order, work_in_child

POLL_SECONDS = 0.25
BUSY_RETRY_SECONDS = 1.0
STOP_SECONDS = 60.0


@dataclass
class Board:
    """The state of a dispatch, for whoever shows it.

    Attributes:
        total: cells handed over.
        ended: (run folder, its status), in the order in which they ended.
        active: run folders being trained by this dispatch.
        elsewhere: run folders that another process is training.
        stopping: whether a stop was asked for.
    """

    total: int
    ended: list[tuple[RunFolder, CellStatus]] = field(default_factory=list)
    active: list[RunFolder] = field(default_factory=list)
    elsewhere: list[RunFolder] = field(default_factory=list)
    stopping: bool = False


def default_workers(device: str) -> int:
    """As many as there are GPUs; without one, as many as there are CPU cores to use."""
    gpus = _gpus(device)
    if gpus:
        return gpus
    import psutil

    return len(psutil.Process().cpu_affinity()) if hasattr(psutil.Process, "cpu_affinity") else 1


def run_locally(orders: list[Order], workers: int, show: Callable[[Board], None]) -> Board:
    """Train all cells, ``workers`` at a time.

    A cell that another process is training is waited for, and taken over if that process dies.
    Ctrl-C (KeyboardInterrupt) lets every worker write its checkpoint and end; a second one kills.

    Args:
        orders: one per cell.
        workers: ≥ 1; the n-th trains on GPU n modulo their number where the device is CUDA.
        show: called a few times a second, and after every change.

    Returns:
        The board at the end; ``stopping`` tells whether it was interrupted.
    """
    context = _process_context()
    board = Board(total=len(orders))
    pending: deque[tuple[Order, float]] = deque((order, 0.0) for order in orders)
    slots: dict[int, tuple[BaseProcess, Order]] = {}
    gpus = _gpus(orders[0].device) if orders else 0
    try:
        while pending or slots:
            _start(context, pending, slots, workers, gpus)
            board.active = [_folder(order) for _, order in slots.values()]
            show(board)
            if slots:
                wait([process.sentinel for process, _ in slots.values()], POLL_SECONDS)
            else:
                time.sleep(POLL_SECONDS)
            for slot, (process, order) in list(slots.items()):
                if process.exitcode is not None:
                    process.join()
                    del slots[slot]
                    _settle(board, pending, order, process.exitcode)
    except KeyboardInterrupt:
        board.stopping = True
        _stop(board, slots, show)
    board.active = []
    show(board)
    return board


def _start(
    context: multiprocessing.context.BaseContext,
    pending: deque[tuple[Order, float]],
    slots: dict[int, tuple[BaseProcess, Order]],
    workers: int,
    gpus: int,
) -> None:
    now = time.monotonic()
    for _ in range(len(pending)):
        free = next((slot for slot in range(workers) if slot not in slots), None)
        if free is None:
            return
        order, not_before = pending.popleft()
        if not_before > now:
            pending.append((order, not_before))
            continue
        placed = replace(order, device=f"cuda:{free % gpus}") if gpus else order
        process = context.Process(target=work_in_child, args=(placed,), daemon=False)
        process.start()
        slots[free] = (process, order)


def _settle(
    board: Board, pending: deque[tuple[Order, float]], order: Order, exit_status: int
) -> None:
    """Note how a cell ended; one that is being trained elsewhere is looked at again later."""
    folder = _folder(order)
    board.elsewhere = [other for other in board.elsewhere if other.key != folder.key]
    if exit_status == BUSY_STATUS:
        board.elsewhere.append(folder)
        # The other process's work counts: it is not done again, even with --force.
        pending.append((replace(order, force=False), time.monotonic() + BUSY_RETRY_SECONDS))
        return
    board.ended.append((folder, status_after(folder, exit_status)))


def status_after(folder: RunFolder, exit_status: int) -> CellStatus:
    """What has become of a cell whose process ended; an end without a word is a failure.

    Args:
        folder: the cell's.
        exit_status: see :func:`marginbench.worker.work`; −N for a process killed by signal N.
    """
    status = folder.status()
    if exit_status < 0 and status.state not in FINISHED:
        name = signal.Signals(-exit_status).name
        memory = " (out of memory?)" if name == "SIGKILL" else ""
        folder.write_failure(f"its process was killed by {name}{memory}", "")
        return folder.status()
    if status.state in (State.NOT_STARTED, State.STOPPED) and exit_status != STOPPED_STATUS:
        folder.write_failure(f"its process ended with status {exit_status}; see {folder.log}", "")
        return folder.status()
    return status


def _stop(
    board: Board, slots: dict[int, tuple[BaseProcess, Order]], show: Callable[[Board], None]
) -> None:
    try:
        for process, _ in slots.values():
            process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        while any(process.exitcode is None for process, _ in slots.values()):
            show(board)
            if time.monotonic() > deadline:
                raise KeyboardInterrupt
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        for process, _ in slots.values():
            process.kill()
    for process, order in slots.values():
        process.join()
        folder = _folder(order)
        board.ended.append((folder, folder.status()))


def _process_context() -> multiprocessing.context.BaseContext:
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["marginbench.worker_preload"])
    return context


def _folder(order: Order) -> RunFolder:
    return RunFolder(order.suite_folder, order.cell)


def _gpus(device: str) -> int:
    if device not in ("auto", "cuda"):
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0
