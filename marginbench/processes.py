"""Independent calls, made side by side in processes of their own."""

from __future__ import annotations

import contextlib
import itertools
import math
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
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


def cores(root: Path = Path("/")) -> int:
    """The CPU cores that this process may use, ≥ 1.

    The fewest of: those of its affinity, its control groups' quota (a container's, either version
    of cgroups) rounded up, and those of the SLURM job that it is in.

    Args:
        root: where ``/proc`` and ``/sys`` are.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    limits = [float(allowed or 1), *_quotas(root)]
    if "SLURM_JOB_ID" in os.environ:
        asked = os.environ.get("SLURM_CPUS_PER_TASK") or os.environ.get("SLURM_CPUS_ON_NODE", "")
        limits += [float(asked)] if asked.isdecimal() else []
    return max(1, math.ceil(min(limits)))


def _quotas(root: Path) -> Iterator[float]:
    """The cores that each control group above this process grants, those without a limit left out.

    In a container its own group is mounted at the top.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    for line in [*lines, "0::/", "0:cpu:/"]:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        group = mount / path.strip("/")
        for folder in (group, *group.parents):
            names = ["cpu.cfs_quota_us", "cpu.cfs_period_us"] if controllers else ["cpu.max"]
            with contextlib.suppress(OSError, ValueError):
                text = " ".join((folder / name).read_text() for name in names)
                # No quota is written "max" or -1.
                quota, period = map(int, text.split())
                if quota > 0 and period > 0:
                    yield quota / period
            if folder == mount:
                break


def _processes() -> int:
    return cores() if sys.platform == "linux" and threading.active_count() == 1 else 1


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
