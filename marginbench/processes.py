"""Independent calls, made side by side in processes of their own."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from types import FrameType
from typing import TypeVar

Value = TypeVar("Value")
Item = TypeVar("Item")

# What the forked processes are to call: it may be a plug-in file's, which none could import.
_calls: Sequence[Callable[[], object]] = ()
_stopped = False


def side_by_side(calls: Sequence[Callable[[], Value]], processes: int | None = None) -> list[Value]:
    """What each call returns, in their order; they are begun in that order too.

    Where a process is killed, all calls are made in this one. Ctrl-C lets those that are being made
    end, and begins no more.

    Args:
        calls: they depend on nothing that another one changes; what they return is picklable.
        processes: how many; None for one a core, on Linux and where this process has one thread
            (a forked process has the locks that other threads held, and nobody to release them).

    Raises:
        Exception: what a call has raised, the first of them.
        KeyboardInterrupt: after Ctrl-C.
    """
    global _calls
    processes = min(_processes() if processes is None else processes, len(calls))
    if processes < 2:
        return [call() for call in calls]
    _calls = calls
    try:
        context = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(processes, context, initializer=_begin) as pool:
            return list(pool.map(_call, range(len(calls))))  # type: ignore[arg-type]
    except BrokenProcessPool:
        return [call() for call in calls]
    finally:
        _calls = ()


def in_parts(
    function: Callable[[Item], Value],
    items: Sequence[Item],
    *,
    at_least: int = 500,
    processes: int | None = None,
) -> list[Value]:
    """A function of each item, in their order; of many items each process has a part.

    Args:
        function: changes nothing; what it returns is picklable.
        items: any.
        at_least: with fewer for each process, there are fewer processes.
        processes: see :func:`side_by_side`.

    Raises:
        Exception: what the function has raised, of the first item of which it has.
    """
    parts = min(_processes() if processes is None else processes, len(items) // at_least)
    if parts < 2:
        return [function(item) for item in items]
    bounds = [number * len(items) // parts for number in range(parts + 1)]
    calls = [
        partial(_of_each, function, items[start:end]) for start, end in itertools.pairwise(bounds)
    ]
    return [value for part in side_by_side(calls, parts) for value in part]


def _of_each(function: Callable[[Item], Value], items: Sequence[Item]) -> list[Value]:
    return [function(item) for item in items]


def _processes() -> int:
    if sys.platform != "linux" or threading.active_count() > 1:
        return 1
    return len(os.sched_getaffinity(0))


def _call(number: int) -> object:
    if _stopped:
        raise KeyboardInterrupt
    return _calls[number]()


def _begin_no_more(number: int, frame: FrameType | None) -> None:
    global _stopped
    _stopped = True


def _begin() -> None:
    # Ctrl-C reaches all processes. As an exception it would be printed by one that waits for its
    # next call, and of one that it kills the pool prints that its call was cancelled.
    signal.signal(signal.SIGINT, _begin_no_more)
    # GNU's OpenMP, once it has run threads, hangs in a forked process that asks for more than one.
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)
