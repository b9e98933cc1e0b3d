"""What has come out: one pandas frame, one row a cell."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from marginbench.cells import Cell
from marginbench.run_files import read_history_file
from marginbench.store import FINISHED, RunFolder, State
from marginbench.suite_runs import SuiteRun

COLUMNS = [
    "setting",
    "comparison",
    "label",
    "head",
    "head_parameters",
    "is_baseline",
    "seed",
    "state",
    "message",
    "iteration",
    "iterations",
    "train_error",
    "test_error",
    "verification_accuracy",
    "verification_standard_error",
    "verification_of",
    "verification",
    "remarks",
    "feature_dimension",
    "num_classes",
    "class_names",
    "train_images",
    "test_images",
    "device",
    "seconds",
    "data",
    "data_parameters",
    "backbone",
    "backbone_parameters",
    "learning_rate",
    "augmentation",
    "precision",
    "key",
    "folder",
]

FRACTIONS = (
    "train_error",
    "test_error",
    "verification_accuracy",
    "verification_standard_error",
)


def results(run: SuiteRun) -> pd.DataFrame:
    """Every cell of the suite with its state and, where it is finished, its numbers.

    Errors and accuracies are fractions in [0, 1]; ``seconds`` is the wall time of the last try;
    ``label`` names head and m, and whatever else tells the suite's rows of one head apart;
    ``comparison`` is equal for cells that differ in head and seed only, ``setting`` is its name;
    ``folder`` is the run folder. What a cell does not have is missing (NaN, None).

    Returns:
        The columns of :data:`COLUMNS`, the rows in the suite's order. Never fails on a damaged or
        missing run folder: that is a state.
    """
    rows = []
    for folder, label in zip(run.runs, row_labels([r.cell for r in run.runs]), strict=True):
        rows.append(_row(folder, label, run.suite.baseline))
    frame = pd.DataFrame(rows, columns=COLUMNS)
    return frame.astype(dict.fromkeys(FRACTIONS, float))


def history(frame: pd.DataFrame) -> pd.DataFrame:
    """The recorded rows of the finished cells in a results frame, one under the other.

    Returns:
        columns key, label, seed and those of history.jsonl (iteration, learning_rate, loss,
        train_error, test_error, ...).
    """
    parts = []
    for row in _finished(frame).itertuples():
        part = pd.DataFrame(read_history_file(row.folder / "history.jsonl"))
        parts.append(part.assign(key=row.key, label=row.label, seed=row.seed))
    empty = ["key", "label", "seed", "iteration", "loss", "train_error", "test_error"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=empty)


def evaluation(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of a finished cell's final evaluation; see marginbench.evaluation."""
    with np.load(folder / "evaluation.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def is_in_evaluation(folder: Path, name: str) -> bool:
    """Whether a finished cell's evaluation has that array, without reading any."""
    with np.load(folder / "evaluation.npz", allow_pickle=False) as arrays:
        return name in arrays.files


def row_labels(cells: list[Cell]) -> list[str]:
    """Head and m, and the parameters that differ between the cells of one head and setting."""
    seen: dict[tuple[str, str], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for cell in cells:
        for name, value in cell.head.parameters.items():
            seen[cell.comparison, cell.head.name][name].add(repr(value))
    labels = []
    for cell in cells:
        varying = seen[cell.comparison, cell.head.name]
        told = [
            f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
            for name, value in cell.head.parameters.items()
            if name == "m" or len(varying[name]) > 1
        ]
        labels.append(" ".join([cell.head.name, *told]))
    return labels


def finished_runs(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows whose cell ran to its end: not diverged, not missing."""
    return frame[frame["state"] == State.DONE.value]


def only_verified(rows: pd.DataFrame) -> bool:
    """Whether runs have finished, and all without test images: what they show is verification."""
    done = finished_runs(rows)
    return bool(len(done) and done["test_error"].isna().all())


def settings(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """(name, rows) of each comparison, in the suite's order. The names are unique."""
    groups = []
    names: dict[str, int] = defaultdict(int)
    for _, rows in frame.groupby("comparison", sort=False):
        first = rows.iloc[0]
        name = first["setting"] or f"{first['data']}, {first['backbone']}"
        names[name] += 1
        groups.append((name if names[name] == 1 else f"{name} ({names[name]})", rows))
    return groups


def _finished(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["state"].isin([state.value for state in FINISHED])]


def _row(folder: RunFolder, label: str, baseline: str) -> dict[str, Any]:
    cell = folder.cell
    status = folder.status()
    result = status.result or {}
    row = {name: result.get(name) for name in COLUMNS}
    return row | {
        "setting": cell.setting,
        "comparison": cell.comparison,
        "label": label,
        "head": cell.head.name,
        "head_parameters": cell.head.parameters,
        "is_baseline": cell.head.name == baseline,
        "seed": cell.seed,
        "state": status.state.value,
        "message": status.message,
        "iteration": status.iteration,
        "iterations": cell.schedule.iterations,
        "seconds": folder.read_environment().get("seconds_of_last_try"),
        "data": cell.data.name,
        "data_parameters": cell.data.parameters,
        "backbone": cell.backbone.name,
        "backbone_parameters": cell.backbone.parameters,
        "learning_rate": cell.optimiser.learning_rate,
        "augmentation": cell.schedule.augmentation,
        "precision": cell.precision,
        "key": folder.key,
        "folder": folder.path,
    }
