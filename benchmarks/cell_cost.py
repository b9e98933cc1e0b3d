"""What a cell of the quickstart costs besides its training steps."""

from __future__ import annotations

import contextlib
import io
import math
import statistics
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

from scipy.stats import t as student

from benchmarks.interleaved import processor_time
from marginbench.dispatch.worker import FINISHED_STATUS, TrainingTask, work
from marginbench.experiments.cells import Cell
from marginbench.runs.suite_runs import open_suite
from marginbench.training.step import TrainingStep


def rows(quick: bool) -> list[dict[str, Any]]:
    """One row: the steps' share of a cell of the suite "digits".

    A cell is what its process does once it is forked: data, initialisation, steps, looks,
    checkpoint, final evaluation, files. Processor time.

    Args:
        quick: two cells instead of six.
    """
    with tempfile.TemporaryDirectory() as name:
        cells = [run.cell for run in open_suite("digits", Path(name)).runs]
        # Those of "2-D features" are few, and longer.
        steps = min(cell.schedule.iterations for cell in cells)
        shortest = [cell for cell in cells if cell.schedule.iterations == steps]
        chosen = shortest[:: len(shortest) // (2 if quick else 6)]
        _seconds(chosen[0], Path(name) / "first")
        measured = [_seconds(cell, Path(name) / str(number)) for number, cell in enumerate(chosen)]
    shares = [of_steps / total for of_steps, total in measured]
    mean = statistics.fmean(shares)
    half = student.ppf(0.975, len(shares) - 1) * statistics.stdev(shares) / math.sqrt(len(shares))
    return [
        {
            "what": f"a cell of the quickstart: its {steps} steps beside all of it",
            "ours": statistics.median(total for _, total in measured),
            "baseline": statistics.median(of_steps for of_steps, _ in measured),
            "unit": "s",
            "ratio": mean,
            "low": mean - half,
            "high": mean + half,
        }
    ]


def _seconds(cell: Cell, folder: Path) -> tuple[float, float]:
    """Of the steps, and of the whole cell."""
    of_steps = 0.0
    step = TrainingStep.__call__

    def timed(self: TrainingStep) -> None:
        nonlocal of_steps
        started = processor_time()
        step(self)
        of_steps += processor_time() - started

    with patch.object(TrainingStep, "__call__", timed), contextlib.redirect_stdout(io.StringIO()):
        started = processor_time()
        status = work(TrainingTask(cell=cell, suite_folder=folder, device="cpu"))
        total = processor_time() - started
    if status != FINISHED_STATUS:
        raise RuntimeError(f"{cell.slug} ended with status {status}; see {folder}")
    return of_steps, total
