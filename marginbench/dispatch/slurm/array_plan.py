"""Cutting cells into jobs, and jobs into arrays that a cluster accepts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from marginbench.runs.run_folder import RunFolder


def batches(todo: Sequence[RunFolder], size: int) -> list[list[RunFolder]]:
    """The cells of each job."""
    return [list(todo[start : start + size]) for start in range(0, len(todo), size)]


@dataclass(frozen=True)
class Slot:
    """An array's part in keeping within ``max_parallel``.

    Attributes:
        parallel: how many of its jobs run at a time.
        after: number of the array whose end it waits for, or None.
    """

    parallel: int
    after: int | None


def plan_arrays(jobs: int, array_size: int, max_parallel: int | None) -> list[tuple[int, Slot]]:
    """Cut jobs into arrays, so that together they keep within a number of running jobs.

    Arrays run side by side, each with its share of ``max_parallel``; where there are more arrays
    than that, the rest wait in line.

    Args:
        jobs: how many, ≥ 1.
        array_size: the cluster's limit.
        max_parallel: jobs that run at a time in all; None for no limit.

    Returns:
        (jobs of the array, its slot), in order.
    """
    number = -(-jobs // array_size)
    # Arrays of like size end at like times.
    sizes = [jobs // number + (i < jobs % number) for i in range(number)]
    if max_parallel is None:
        return [(size, Slot(size, None)) for size in sizes]
    lanes = min(number, max_parallel)
    slots = []
    for i, size in enumerate(sizes):
        lane = i % lanes
        share = max_parallel // lanes + (lane < max_parallel % lanes)
        slots.append((size, Slot(min(size, share), i - lanes if i >= lanes else None)))
    return slots
