"""What has come out: one pandas frame, one row a cell."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from marginbench.data.formats.archives import damage_named
from marginbench.data.formats.array_archives import array_names, read_arrays
from marginbench.errors import UserError
from marginbench.experiments.suites import FULL
from marginbench.plugins.loading import load_plugin_file
from marginbench.runs.cell_status import FINISHED, CellStatus, State
from marginbench.runs.conditions import conditions_of, row_labels
from marginbench.runs.open_tuned import reopen_tuned
from marginbench.runs.result_columns import COLUMNS, FEATURE_NUMBERS, FRACTIONS, NAMES
from marginbench.runs.run_files import read_history_file
from marginbench.runs.run_folder import RunFolder
from marginbench.runs.stale_results import stale_notes
from marginbench.runs.suite_runs import SuiteRun, open_suite
from marginbench.runs.tuned_results import tuned_rows
from marginbench.runs.tuned_runs import TunedRun
from marginbench.text import printable_line


def results(
    suite: SuiteRun | str | Path,
    runs: str | Path = "runs",
    *,
    seeds: int | None = None,
    size: str = FULL,
    only: Sequence[str] = (),
    more_heads: Sequence[str] = (),
    plugins: Sequence[str | Path] = (),
    tuned: bool = False,
) -> pd.DataFrame:
    """Every cell of the suite with its state and, where it is finished, its numbers.

    Errors and accuracies are fractions in [0, 1]; ``seconds`` is the wall time since training was
    last resumed; ``processor`` is the CPU's model, and ``cpu_capability`` the widest vector
    instructions that torch used on it ("AVX2"); ``gpu_software`` names CUDA, cuDNN and driver;
    ``label`` names head and m, and what else
    distinguishes the suite's rows of one head; ``head_key`` is equal for equal heads (of a tuned
    suite, for heads of one name), and different heads of a comparison have different labels;
    ``comparison`` is equal for cells that differ in head and seed only, ``setting`` is its name;
    ``conditions`` is all that cells of one comparison share, value by field
    ("schedule.iterations", "backbone.parameters.width"); ``equal_within`` is the suite's δ;
    ``max_seeds``, ``first_look`` and ``spending`` are of the plan
    (:class:`marginbench.runs.seed_plan.SeedPlan`) of a suite run until it is decided;
    ``folder`` is the run folder; ``search`` of a tuned suite is the search that has chosen the
    parameters, a :class:`marginbench.runs.search_results.SearchResult`. What a cell
    does not have is missing (NaN, None). Names and messages are printable
    (:func:`marginbench.text.printable_line`).

    Example:
        >>> frame = results("digits")
        >>> frame.groupby("label")["test_error"].mean()

    Args:
        suite: its name, the path of its file, or the suite opened already; the other arguments
            then count for nothing.
        runs: RUNS.
        seeds, size, only, more_heads: see :func:`marginbench.runs.suite_runs.open_suite`.
        plugins: files with the heads, backbones and data sources that the suite needs.
        tuned: the final runs of the suite's search, one row a head and seed, in place of its own.

    Returns:
        The columns of :data:`COLUMNS`, the rows in the suite's order. Never fails on a damaged or
        missing run folder: that is a state. Warns if results were made by other code, from other
        images or with other libraries than there are now, as `status` does.

    Raises:
        UserError: see :func:`marginbench.runs.suite_runs.open_suite`.
    """
    if isinstance(suite, SuiteRun):
        run = suite
    else:
        for file in plugins:
            load_plugin_file(file)
        name, path = str(suite), Path(runs)
        run = (
            reopen_tuned(name, path, size=size, only=only)
            if tuned
            else open_suite(name, path, seeds=seeds, size=size, only=only, more_heads=more_heads)
        )
    statuses = {folder.key: folder.status() for folder in run.runs}
    # Of a part that is in no plug-in file given here, the code is not known.
    with contextlib.suppress(UserError):
        for note in stale_notes((folder, statuses[folder.key]) for folder in run.runs):
            warnings.warn(f"suite {run.suite.name!r}: {note}", stacklevel=2)
    return results_of(run, statuses)


def results_of(run: SuiteRun, statuses: Mapping[str, CellStatus] | None = None) -> pd.DataFrame:
    """:func:`results` of a suite opened already.

    Args:
        run: the suite.
        statuses: of cells that were looked at just now, by key; the others are looked at here.
    """
    row = partial(_row, statuses=statuses or {}, conditions={})
    if isinstance(run, TunedRun):
        rows = tuned_rows(run, row)
    else:
        labels = row_labels([r.cell for r in run.runs])
        rows = [row(r, label, run) for r, label in zip(run.runs, labels, strict=True)]
    # Before there is a frame: pandas keeps text in Arrow, which has no half surrogate pairs.
    printable = [row | {name: _printable(row[name]) for name in NAMES} for row in rows]
    frame = pd.DataFrame(printable, columns=COLUMNS)
    numbers = (*FRACTIONS, *FEATURE_NUMBERS, "equal_within", "max_seeds", "first_look")
    return frame.astype(dict.fromkeys(numbers, float))


def history(frame: pd.DataFrame) -> pd.DataFrame:
    """The recorded rows of the finished cells in a results frame, one under the other.

    Returns:
        columns key, label, seed and those of history.jsonl (iteration, learning_rate, loss,
        train_error, test_error, ...).
    """
    done = _finished(frame)
    of_runs = zip(done["folder"], done["key"], done["label"], done["seed"], strict=True)
    rows = [
        look | {"key": key, "label": label, "seed": seed}
        for folder, key, label, seed in of_runs
        for look in read_history_file(folder / "history.jsonl")
    ]
    empty = ["key", "label", "seed", "iteration", "loss", "train_error", "test_error"]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=empty)


def evaluation(folder: Path, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of a finished cell's final evaluation; see marginbench.evaluation.final.

    Args:
        folder: of the cell.
        names: of the arrays that are wanted; None for all.

    Raises:
        DamagedFile: the file does not read well, or has no such array.
    """
    path = folder / "evaluation.npz"
    with damage_named(path):
        return read_arrays(path, array_names(path) if names is None else names)


def is_in_evaluation(folder: Path, name: str) -> bool:
    """Whether a finished cell's evaluation has that array, without reading any.

    Raises:
        DamagedFile: the file does not read well.
    """
    path = folder / "evaluation.npz"
    with damage_named(path):
        return name in array_names(path)


def finished_runs(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows whose cell ran to its end: not diverged, not missing."""
    return frame[frame["state"] == State.DONE.value]


def only_verified(rows: pd.DataFrame) -> bool:
    """Whether runs have finished, and all without test images: what they show is verification."""
    done = finished_runs(rows)
    return bool(len(done) and done["test_error"].isna().all())


_printable_line = lru_cache(maxsize=10_000)(printable_line)


def _printable(value: Any) -> Any:
    """Names as they may be shown: folders, classes and settings are named by whoever made them."""
    if isinstance(value, str):
        return _printable_line(value)
    return [_printable(one) for one in value] if isinstance(value, list) else value


def _finished(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["state"].isin([state.value for state in FINISHED])]


def _row(
    folder: RunFolder,
    label: str,
    run: SuiteRun,
    *,
    statuses: Mapping[str, CellStatus],
    conditions: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    """A cell's row. ``conditions`` keeps those of each comparison, so that its rows share them."""
    cell = folder.cell
    status = statuses.get(folder.key) or folder.status()
    if cell.comparison not in conditions:
        conditions[cell.comparison] = conditions_of(cell)
    result = status.result or {}
    environment = folder.read_environment()
    row = {name: result.get(name) for name in COLUMNS}
    return row | {
        "suite": run.suite.name,
        "setting": cell.setting,
        "comparison": cell.comparison,
        "label": label,
        "head": cell.head.name,
        "head_parameters": cell.head.parameters,
        "head_key": cell.head_key,
        "is_baseline": cell.head.name == run.suite.baseline,
        "seed": cell.seed,
        "state": status.state.value,
        "message": status.message,
        "iteration": status.iteration,
        "iterations": cell.schedule.iterations,
        "processor": environment.get("processor"),
        "cpu_capability": environment.get("cpu_capability"),
        "gpu_software": environment.get("gpu_software"),
        "seconds": environment.get("seconds_of_last_attempt"),
        "data": cell.data.name,
        "data_parameters": cell.data.parameters,
        "backbone": cell.backbone.name,
        "backbone_parameters": cell.backbone.parameters,
        "regulariser": cell.regulariser.name if cell.regulariser else None,
        "regulariser_parameters": cell.regulariser.parameters if cell.regulariser else None,
        "training": cell.training.kind,
        "learning_rate": cell.optimiser.learning_rate,
        "augmentation": cell.schedule.augmentation,
        "precision": cell.precision,
        "conditions": conditions[cell.comparison],
        "equal_within": run.suite.equal_within,
        "max_seeds": run.plan.max_seeds if run.plan else None,
        "first_look": run.plan.first_look if run.plan else None,
        "spending": run.plan.spending if run.plan else None,
        "key": folder.key,
        "folder": folder.path,
    }
