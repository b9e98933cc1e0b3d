"""Running cells here: one process a cell, so many at a time.

Every cell gets a process of its own, forked from a server that has torch loaded already: cheap to
start, and a cell that crashes or is killed takes nothing with it. What became of a cell is read
from its run folder; of the processes only the exit status is used.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess

from marginbench.dispatch.sharing import cells_on_a_gpu
from marginbench.dispatch.worker import BUSY_STATUS, TrainingTask
from marginbench.dispatch.worker_process import status_after, work_in_child
from marginbench.experiments.cells import FUSED, Cell
from marginbench.processes import cores
from marginbench.runs.cell_status import CellStatus, State, running_status
from marginbench.runs.deciding_code import libraries_of_parts
from marginbench.runs.lease_state import holder
from marginbench.runs.run_folder import RunFolder
from marginbench.training.native_library import compile_layers

POLL_SECONDS = 0.25
BUSY_RETRY_SECONDS = 1.0
STOP_SECONDS = 60.0


@dataclass
class DispatchProgress:
    """How far a dispatch is, for whoever shows it.

    Attributes:
        total: cells to be trained.
        ended: (run folder, its status), in the order in which they ended.
        active: run folders being trained by this dispatch.
        iterations: done of each of these cells, by its key, as far as known.
        busy: run folders that another process is training, and who, by the cell's key.
        stopping: whether a stop was asked for.
    """

    total: int
    ended: list[tuple[RunFolder, CellStatus]] = field(default_factory=list)
    active: list[RunFolder] = field(default_factory=list)
    iterations: dict[str, int] = field(default_factory=dict)
    busy: dict[str, tuple[RunFolder, CellStatus]] = field(default_factory=dict)
    stopping: bool = False


@dataclass
class _Worker:
    """A process, what it trains, and how far it is."""

    process: BaseProcess
    task: TrainingTask
    folder: RunFolder
    iteration: ctypes.c_longlong


def default_workers(device: str, cells: Iterable[Cell] = ()) -> int:
    """How many cells to train at a time.

    Args:
        device: "auto", "cpu" or "cuda".
        cells: resolved; see :func:`marginbench.dispatch.sharing.cells_on_a_gpu`.
    """
    gpus = _gpus(device)
    return gpus * cells_on_a_gpu(cells, gpus) if gpus else cores()


def run_locally(
    tasks: list[TrainingTask], workers: int, show: Callable[[DispatchProgress], None]
) -> DispatchProgress:
    """Train all cells, ``workers`` at a time.

    A cell that another process is training is waited for, and taken over if that process dies.
    Ctrl-C (KeyboardInterrupt) lets every worker write its checkpoint and end; a second one kills.

    Args:
        tasks: one per cell.
        workers: ≥ 1; the n-th trains on GPU n modulo their number where the device is CUDA.
        show: called a few times a second, and after every change.

    Returns:
        The progress at the end; ``stopping`` says whether it was interrupted.
    """
    dispatch = _Dispatch(tasks, workers, show)
    try:
        dispatch.run()
    except KeyboardInterrupt:
        dispatch.stop()
    dispatch.progress.active = []
    show(dispatch.progress)
    return dispatch.progress


class _Dispatch:
    """The cells that wait, those that are trained, and how far all of them are."""

    def __init__(
        self, tasks: list[TrainingTask], workers: int, show: Callable[[DispatchProgress], None]
    ) -> None:
        self.progress = DispatchProgress(total=len(tasks))
        self._tasks = tasks
        self._pending = deque((task, 0.0) for task in tasks)
        self._free = list(range(workers))
        self._workers: dict[int, _Worker] = {}
        self._show = show

    def run(self) -> None:
        gpus = _gpus(self._tasks[0].device) if self._tasks else 0
        context = start_server(task.cell for task in self._tasks)
        while self._pending or self._workers:
            self._start(context, gpus)
            workers = self._workers.values()
            self.progress.active = [worker.folder for worker in workers]
            self.progress.iterations = {w.folder.key: w.iteration.value for w in workers}
            self._show(self.progress)
            if workers:
                wait([worker.process.sentinel for worker in workers], POLL_SECONDS)
            else:
                time.sleep(POLL_SECONDS)
            for slot, worker in list(self._workers.items()):
                exit_status = worker.process.exitcode
                if exit_status is not None:
                    worker.process.join()
                    del self._workers[slot]
                    self._free.append(slot)
                    self._record_end(worker, exit_status)

    def stop(self) -> None:
        """Let every worker write its checkpoint and end; kill those that take too long."""
        self.progress.stopping = True
        workers = self._workers.values()
        try:
            for worker in workers:
                worker.process.terminate()
            deadline = time.monotonic() + STOP_SECONDS
            while any(worker.process.exitcode is None for worker in workers):
                self._show(self.progress)
                if time.monotonic() > deadline:
                    raise KeyboardInterrupt
                time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:
            for worker in workers:
                worker.process.kill()
        for worker in workers:
            worker.process.join()
            self.progress.ended.append((worker.folder, worker.folder.status()))

    def _start(self, context: ForkServerContext | SpawnContext, gpus: int) -> None:
        """Start a process for each cell that may be trained now, as long as a slot is free."""
        now = time.monotonic()
        for _ in range(len(self._pending)):
            if not self._free:
                return
            task, not_before = self._pending.popleft()
            if not_before > now:
                self._pending.append((task, not_before))
                continue
            folder = RunFolder(task.suite_folder, task.cell)
            if self._is_busy(folder):
                self._retry_later(task)
                continue
            slot = min(self._free)
            self._free.remove(slot)
            on_device = replace(task, device=f"cuda:{slot % gpus}") if gpus else task
            iteration = context.RawValue(ctypes.c_longlong, 0)
            process = context.Process(
                target=work_in_child, args=(on_device, iteration), daemon=False
            )
            with _without_main_module():
                process.start()
            self._workers[slot] = _Worker(process, task, folder, iteration)

    def _is_busy(self, folder: RunFolder) -> bool:
        """Whether another process trains the cell now; noted in the progress."""
        self.progress.busy.pop(folder.key, None)
        try:
            held = holder(folder.path)
        except OSError:
            # No folder yet, or one whose worker will find what is wrong with it.
            return False
        if held is not None:
            self.progress.busy[folder.key] = (folder, running_status(held))
        return held is not None

    def _retry_later(self, task: TrainingTask) -> None:
        """Another process trains the cell. It is not trained again after that, even by --force."""
        retry = replace(task, force=False)
        self._pending.append((retry, time.monotonic() + BUSY_RETRY_SECONDS))

    def _record_end(self, worker: _Worker, exit_status: int) -> None:
        if exit_status == BUSY_STATUS:
            self._retry_later(worker.task)
            return
        status = status_after(worker.folder, exit_status, forced=worker.task.force)
        if status.state == State.RUNNING:
            # Its lease had run out, and another process has taken it over.
            self._retry_later(worker.task)
        else:
            self.progress.ended.append((worker.folder, status))


def start_server(cells: Iterable[Cell]) -> ForkServerContext | SpawnContext:
    """Start the process that workers are forked from, unless it runs; it loads what they need.

    It does so on its own: whoever calls this early has a core's work done meanwhile.

    Args:
        cells: to be trained, resolved or as declared.
    """
    cells = list(cells)
    if any(cell.execution == FUSED for cell in cells):
        threading.Thread(target=compile_layers, daemon=True).start()
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    libraries = libraries_of_parts(cells)
    context.set_forkserver_preload(["marginbench.dispatch.worker_preload", *libraries])
    with _without_current_folder():
        # Ctrl-C reaches the whole process group; while the server loads, it would print a
        # traceback. What is blocked stays so in the server and its workers, which a SIGTERM stops.
        # The tracker is started first: starting it unblocks the signal.
        resource_tracker.ensure_running()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return context


@contextlib.contextmanager
def _without_current_folder() -> Iterator[None]:
    """Python processes started meanwhile import nothing from the folder that the user is in.

    They are started with ``-c``, which puts that folder first: a user's ``queue.py``, or another
    clone of this project, would be taken for the module of this name.
    """
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before


@contextlib.contextmanager
def _without_main_module() -> Iterator[None]:
    """Python processes started meanwhile do not run this program's first file again, as they would.

    What they do is in this package, and reading the command's modules would take each cell 20 ms.
    """
    before = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = before


def _gpus(device: str) -> int:
    if device not in ("auto", "cuda"):
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0
