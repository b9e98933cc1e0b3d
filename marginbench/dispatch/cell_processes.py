"""The processes of a job that train one cell together: forked at once, watched and ended as one."""

from __future__ import annotations

import importlib
import multiprocessing
import signal
import socket
import time
from dataclasses import replace
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

from marginbench.dispatch.worker import (
    BUSY_STATUS,
    FINISHED_STATUS,
    STOPPED_STATUS,
    UNUSABLE_STATUS,
    TrainingTask,
)
from marginbench.dispatch.worker_process import work_in_child

# How long rank 0 has to record the reason, where another rank has failed.
FAILURE_SECONDS = 15.0


def load_for(ranks: int) -> None:
    """Load what each of so many processes would load by itself; called before they are forked.

    DistributedDataParallel imports torch's compiler, which takes two seconds.

    Args:
        ranks: number of processes, ≥ 1.
    """
    if ranks > 1:
        importlib.import_module("torch._dynamo")


class CellProcesses:
    """Started in its constructor: one process a rank, on this machine.

    Rank 0 writes the result, so its end is the end of all. No rank waits for one that is no more:
    where one is killed or fails, the others are ended.

    Args:
        task: what each of them does; rank and address are set here.
        ranks: number of processes, ≥ 1.

    Raises:
        OSError: the machine cannot start that many; none is left.
    """

    def __init__(self, task: TrainingTask, ranks: int) -> None:
        address = f"tcp://127.0.0.1:{_free_port()}" if ranks > 1 else None
        # The parent has torch loaded.
        context = multiprocessing.get_context("fork")
        self._processes: list[BaseProcess] = []
        self._status: int | None = None
        self._failed_at: float | None = None
        # Shared memory for a reason in UTF-8.
        self._fault: Any = context.Array("c", 1000)
        try:
            for rank in range(ranks):
                own = replace(
                    task, rank=rank, ranks=ranks, address=address, give_back=self._note_fault
                )
                process = context.Process(target=_train_in_child, args=(own,), daemon=False)
                process.start()
                self._processes.append(process)
        except OSError:
            self.kill()
            raise

    def wait(self, seconds: float) -> int | None:
        """How they ended, taken together, waiting so long for it; None if they still train.

        Returns:
            As :func:`work` has it; −N where a process was killed by signal N.
            None of them lives any more then.
        """
        if self._status is None:
            wait([p.sentinel for p in self._processes if p.exitcode is None], seconds)
            self._status = self._joint_status()
            if self._status is not None:
                self.kill()
        return self._status

    @property
    def fault(self) -> str:
        """What is wrong with this machine, where the status is UNUSABLE_STATUS."""
        return self._fault.value.decode(errors="replace")

    def terminate(self) -> None:
        """Ask them to write their checkpoint and end."""
        for process in self._processes:
            process.terminate()

    def kill(self) -> None:
        """End them now."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.join()

    def _note_fault(self, reason: str) -> None:
        self._fault.value = reason.encode()[:999]

    def _joint_status(self) -> int | None:
        first, *others = (process.exitcode for process in self._processes)
        if UNUSABLE_STATUS in others:
            return UNUSABLE_STATUS
        if first in (FINISHED_STATUS, STOPPED_STATUS, BUSY_STATUS):
            return first
        failed = [s for s in others if s not in (None, FINISHED_STATUS, STOPPED_STATUS)]
        killed = [status for status in failed if status < 0]
        if killed:
            # What rank 0 records then is only that it lost the connection.
            return killed[0]
        if first is None and failed:
            self._failed_at = self._failed_at or time.monotonic()
            if time.monotonic() - self._failed_at > FAILURE_SECONDS:
                return failed[0]
        return first


def _train_in_child(task: TrainingTask) -> None:
    """The whole life of a cell's process; submitit's handlers are not for it."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCONT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGUSR2})
    work_in_child(task)


def _free_port() -> int:
    """A port of this machine that nothing listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
