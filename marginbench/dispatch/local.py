"""Running cells here: one process a cell, so many at a time.

Every cell gets a process of its own, forked from a server that has torch loaded already: cheap to
start, and a cell that crashes or is killed takes nothing with it. What became of a cell is read
from its run folder; the processes tell only that they ended.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

from marginbench.dispatch.worker import (
    BUSY_STATUS,
    Order,
)
from marginbench.dispatch.worker_process import status_after, work_in_child
from marginbench.runs.cell_status import CellStatus, State, running_status
from marginbench.runs.deciding_code import libraries_of_parts
from marginbench.runs.lease_state import holder
from marginbench.runs.run_folder import RunFolder

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
        iterations: done of each of these cells, by its key, as far as known.
        elsewhere: run folders that another process is training, and who, by the cell's key.
        stopping: whether a stop was asked for.
    """

    total: int
    ended: list[tuple[RunFolder, CellStatus]] = field(default_factory=list)
    active: list[RunFolder] = field(default_factory=list)
    iterations: dict[str, int] = field(default_factory=dict)
    elsewhere: dict[str, tuple[RunFolder, CellStatus]] = field(default_factory=dict)
    stopping: bool = False


@dataclass
class _Worker:
    """A process, what it does, and how far it is."""

    process: BaseProcess
    order: Order
    iteration: ctypes.c_longlong


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
    board = Board(total=len(orders))
    pending: deque[tuple[Order, float]] = deque((order, 0.0) for order in orders)
    slots: dict[int, _Worker] = {}
    try:
        gpus = _gpus(orders[0].device) if orders else 0
        context = _process_context(orders)
        while pending or slots:
            _start(context, board, pending, slots, workers, gpus)
            _look(board, slots)
            show(board)
            if slots:
                wait([worker.process.sentinel for worker in slots.values()], POLL_SECONDS)
            else:
                time.sleep(POLL_SECONDS)
            for slot, worker in list(slots.items()):
                if worker.process.exitcode is not None:
                    worker.process.join()
                    del slots[slot]
                    _settle(board, pending, worker.order, worker.process.exitcode)
    except KeyboardInterrupt:
        board.stopping = True
        _stop(board, slots, show)
    board.active = []
    show(board)
    return board


def _start(
    context: multiprocessing.context.BaseContext,
    board: Board,
    pending: deque[tuple[Order, float]],
    slots: dict[int, _Worker],
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
        if _is_elsewhere(board, order):
            _wait_for(pending, order)
            continue
        placed = replace(order, device=f"cuda:{free % gpus}") if gpus else order
        iteration = context.RawValue(ctypes.c_longlong, 0)
        process = context.Process(target=work_in_child, args=(placed, iteration), daemon=False)
        process.start()
        slots[free] = _Worker(process, order, iteration)


def _is_elsewhere(board: Board, order: Order) -> bool:
    """Whether another process trains the cell now; noted on the board."""
    folder = _folder(order)
    board.elsewhere.pop(folder.key, None)
    try:
        held = holder(folder.path)
    except OSError:
        # No folder yet, or one whose worker will find what is wrong with it.
        return False
    if held is not None:
        board.elsewhere[folder.key] = (folder, running_status(held))
    return held is not None


def _wait_for(pending: deque[tuple[Order, float]], order: Order) -> None:
    """Another process trains the cell. Its work counts: it is not done again, even with --force."""
    pending.append((replace(order, force=False), time.monotonic() + BUSY_RETRY_SECONDS))


def _look(board: Board, slots: dict[int, _Worker]) -> None:
    folders = [(_folder(worker.order), worker) for worker in slots.values()]
    board.active = [folder for folder, _ in folders]
    board.iterations = {folder.key: worker.iteration.value for folder, worker in folders}


def _settle(
    board: Board, pending: deque[tuple[Order, float]], order: Order, exit_status: int
) -> None:
    """Note how a cell ended; one that is being trained elsewhere is looked at again later."""
    folder = _folder(order)
    if exit_status == BUSY_STATUS:
        _wait_for(pending, order)
        return
    status = status_after(folder, exit_status, forced=order.force)
    if status.state == State.RUNNING:
        # Its lease had run out, and another process has taken it over.
        _wait_for(pending, order)
        return
    board.ended.append((folder, status))


def _stop(board: Board, slots: dict[int, _Worker], show: Callable[[Board], None]) -> None:
    workers = slots.values()
    try:
        for worker in workers:
            worker.process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        while any(worker.process.exitcode is None for worker in workers):
            show(board)
            if time.monotonic() > deadline:
                raise KeyboardInterrupt
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        for worker in workers:
            worker.process.kill()
    for worker in workers:
        worker.process.join()
        folder = _folder(worker.order)
        board.ended.append((folder, folder.status()))


def _process_context(orders: list[Order]) -> multiprocessing.context.BaseContext:
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    libraries = libraries_of_parts(order.cell for order in orders)
    context.set_forkserver_preload(["marginbench.dispatch.worker_preload", *libraries])
    # Ctrl-C reaches the whole process group; while the server loads, it would print a traceback.
    # What is blocked stays so in the server and its workers, which are told to stop by a SIGTERM.
    # The tracker is started first: starting it unblocks the signal.
    resource_tracker.ensure_running()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return context


def _folder(order: Order) -> RunFolder:
    return RunFolder(order.suite_folder, order.cell)


def _gpus(device: str) -> int:
    if device not in ("auto", "cuda"):
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0
