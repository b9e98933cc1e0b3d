"""The processes of a job that train its cells together: one task a GPU.

Task 0 decides what is trained and says so in a small file beside the submission; the other tasks
read it and join. Each cell has processes of its own in every task, and they meet at an address of
their own, so a cell that fails takes nothing with it.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from marginbench.atomic_files import write_text_atomically
from marginbench.cells import Cell
from marginbench.worker import FINISHED_STATUS, STOPPED_STATUS, Order

POLL_SECONDS = 0.2
# What the others are given to end by themselves once a cell is over, or one of them has failed.
PATIENCE_SECONDS = 15.0
IDLE = "idle"
OVER = "over"


@dataclass(frozen=True)
class Task:
    """Which task of the job this process is, as submitit's environment has it.

    Attributes:
        rank: 0 … size − 1.
        size: tasks of the job.
        local_rank: of those on this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0


def own_task() -> Task:
    """This process's task, by submitit's environment."""
    from submitit import JobEnvironment

    environment = JobEnvironment()
    return Task(environment.global_rank, environment.num_tasks, environment.local_rank)


class Announcements:
    """What task 0 tells the others of a job, and they tell it.

    Args:
        folder: of the submission.
        job: the job's id.
        task: this one.
    """

    def __init__(self, folder: Path, job: str, task: Task) -> None:
        restart = os.environ.get("SLURM_RESTART_COUNT") or "0"
        self._folder = folder / "tasks"
        self._stem = f"{job}-{restart}"
        self._task = task
        self._number = 0

    def announce(self, key: str) -> str | None:
        """A cell is to be trained, "idle" or "over"; where its processes meet. By task 0."""
        if self._task.size == 1:
            return None
        self._number += 1
        address = None if key in (IDLE, OVER) else f"tcp://127.0.0.1:{_free_port()}"
        self._write(0, {"number": self._number, "key": key, "address": address})
        return address

    def announced(self) -> dict[str, Any]:
        """The last word of task 0."""
        return self._read(0) or {"number": 0, "key": IDLE, "address": None}

    def report(self, number: int, status: int) -> None:
        """How this task's process ended. By the others."""
        self._write(self._task.rank, {"number": number, "status": status})

    def another_failed(self) -> bool:
        """Whether another task's process of the cell announced last has failed. By task 0."""
        reports = [self._read(rank) for rank in range(1, self._task.size)]
        return any(
            told is not None
            and told["number"] == self._number
            and told["status"] not in (FINISHED_STATUS, STOPPED_STATUS)
            for told in reports
        )

    def _path(self, rank: int) -> Path:
        return self._folder / f"{self._stem}-{rank}.json"

    def _write(self, rank: int, content: dict[str, Any]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        write_text_atomically(self._path(rank), json.dumps(content), durable=False)

    def _read(self, rank: int) -> dict[str, Any] | None:
        with suppress(OSError, ValueError):
            return json.loads(self._path(rank).read_text())
        return None


def follow(
    announcements: Announcements,
    cells: list[Cell],
    make_order: Callable[[Cell, str], Order],
    run: Callable[[Order], None],
) -> None:
    """Join in every cell that task 0 announces, until it says that all is over.

    Args:
        announcements: of the job.
        cells: of the job.
        make_order: the order of a cell, with the address where its processes meet.
        run: the whole life of a cell's process.
    """
    by_key = {cell.key: cell for cell in cells}
    context = multiprocessing.get_context("fork")
    seen = 0
    while True:
        told = announcements.announced()
        if told["key"] == OVER:
            return
        if told["number"] > seen and told["key"] in by_key:
            seen = told["number"]
            order = make_order(by_key[told["key"]], told["address"])
            process = context.Process(target=run, args=(order,), daemon=False)
            process.start()
            announcements.report(seen, _ended(process, announcements, seen))
        time.sleep(POLL_SECONDS)


def _ended(process: BaseProcess, announcements: Announcements, number: int) -> int:
    """The process's exit status; it is ended where task 0 has gone on without it."""
    left_behind = 0.0
    while process.exitcode is None:
        time.sleep(POLL_SECONDS)
        if announcements.announced()["number"] == number:
            continue
        left_behind = left_behind or time.monotonic()
        if time.monotonic() - left_behind > PATIENCE_SECONDS:
            process.kill()
    process.join()
    return process.exitcode


def _free_port() -> int:
    """A port that nothing listens on now; all tasks of a job are on one machine."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
