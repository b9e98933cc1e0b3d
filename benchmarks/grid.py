"""The quickstart as a user runs it: cells side by side, its time, and its time once all is done.

Wall time, of commands in processes of their own.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import cell_cost
from benchmarks.interleaved import compare
from marginbench.processes import cores

FEW = ("--only", "softmax", "--seeds", "4")
"""Cells that are trained again and again."""


def rows(quick: bool) -> list[dict[str, Any]]:
    """The steps' share of a cell, and one cell a core beside one at a time.

    Args:
        quick: fewer cells and rounds.
    """
    found = cell_cost.rows(quick)
    if cores() < 2:
        return found
    few = (*FEW[:2], "--seeds", "1") if quick else FEW
    with tempfile.TemporaryDirectory() as name:
        together, alone = (_training(Path(name), few, workers) for workers in (cores(), 1))
        ratio = compare(together, alone, rounds=2 if quick else 3, repeats=1)
    what = f"run digits {' '.join(few)}: {cores()} cells at a time beside one, start included"
    print(f"{what}: {ratio.ratio:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]", flush=True)
    row = {
        "what": what,
        "ours": ratio.ours,
        "baseline": ratio.baseline,
        "unit": "s",
        "ratio": ratio.ratio,
        "low": ratio.low,
        "high": ratio.high,
    }
    return [*found, row]


def seconds(quick: bool) -> dict[str, float]:
    """Of whole commands: the quickstart with its report, then `run` and `report` once all is done.

    Args:
        quick: of softmax and ArcFace with one seed each.
    """
    chosen = ["--only", "softmax,arcface", "--seeds", "1"] if quick else []
    found = {}
    with tempfile.TemporaryDirectory() as name:
        for what, verb in (
            ("`marginbench run digits`, its cells and the report", "run"),
            ("the same command again", "run"),
            ("`marginbench report digits`", "report"),
        ):
            started = time.perf_counter()
            _marginbench(verb, "digits", *chosen, "--runs", name)
            found[what] = time.perf_counter() - started
            print(f"{what}: {found[what]:.1f} s", flush=True)
    return found


def _training(folder: Path, chosen: tuple[str, ...], workers: int) -> Callable[[], None]:
    numbers = itertools.count()

    def run() -> None:
        runs = folder / f"{workers}-{next(numbers)}"
        options = ("--runs", str(runs), "--workers", str(workers), "--device", "cpu")
        _marginbench("run", "digits", *chosen, *options, "--no-report")

    return run


def _marginbench(*arguments: str) -> None:
    command = [sys.executable, "-m", "marginbench.command_line", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(arguments)} ended with {done.returncode}: {done.stdout[-2000:]}"
        )
