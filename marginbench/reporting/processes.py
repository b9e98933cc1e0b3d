"""Independent parts of a report, made side by side in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

Value = TypeVar("Value")

# What the forked processes are to call: it may be a plug-in file's, which none could import.
_calls: Sequence[Callable[[], object]] = ()


def side_by_side(calls: Sequence[Callable[[], Value]], processes: int | None = None) -> list[Value]:
    """What each call returns, in their order; they are begun in that order too.

    Where a process is killed, all calls are made in this one.

    Args:
        calls: they depend on nothing that another one changes; what they return is picklable.
        processes: how many; None for one a core, on Linux and where this process has one thread
            (a forked process has the locks that other threads held, and nobody to release them).

    Raises:
        Exception: what a call has raised, the first of them.
    """
    global _calls
    processes = min(_processes() if processes is None else processes, len(calls))
    if processes < 2:
        return [call() for call in calls]
    _calls = calls
    try:
        context = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(processes, context, initializer=_take_one_thread) as pool:
            return list(pool.map(_call, range(len(calls))))  # type: ignore[arg-type]
    except BrokenProcessPool:
        return [call() for call in calls]
    finally:
        _calls = ()


def _processes() -> int:
    if sys.platform != "linux" or threading.active_count() > 1:
        return 1
    return len(os.sched_getaffinity(0))


def _call(number: int) -> object:
    return _calls[number]()


def _take_one_thread() -> None:
    # GNU's OpenMP, once it has run threads, hangs in a forked process that asks for more than one.
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)
