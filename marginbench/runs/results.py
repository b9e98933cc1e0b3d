"""What has come out: one pandas frame, one row a cell."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from marginbench.data.formats.archives import damage_named
from marginbench.data.formats.array_archives import array_names, read_arrays
from marginbench.experiments.cells import Cell
from marginbench.experiments.grids import FULL
from marginbench.plugins.loading import load_plugin_file
from marginbench.runs.run_files import read_history_file
from marginbench.runs.run_folder import FINISHED, RunFolder, State
from marginbench.runs.suite_runs import SuiteRun, open_suite
from marginbench.text import printable_line

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
    "code",
    "libraries",
    "seconds",
    "data",
    "data_parameters",
    "backbone",
    "backbone_parameters",
    "learning_rate",
    "augmentation",
    "precision",
    "conditions",
    "equal_within",
    "max_seeds",
    "spending",
    "key",
    "folder",
]

NAMES = ("setting", "label", "message", "class_names", "remarks")
FRACTIONS = (
    "train_error",
    "test_error",
    "verification_accuracy",
    "verification_standard_error",
)


def results(
    suite: SuiteRun | str | Path,
    runs: str | Path = "runs",
    *,
    seeds: int | None = None,
    size: str = FULL,
    only: Sequence[str] = (),
    more_heads: Sequence[str] = (),
    plugins: Sequence[str | Path] = (),
) -> pd.DataFrame:
    """Every cell of the suite with its state and, where it is finished, its numbers.

    Errors and accuracies are fractions in [0, 1]; ``seconds`` is the wall time since training was
    last resumed; ``label`` names head and m, and whatever else tells the suite's rows of one head
    apart; ``comparison`` is equal for cells that differ in head and seed only, ``setting`` is its
    name; ``conditions`` is all that cells of one comparison share, value by field
    ("schedule.iterations", "backbone.parameters.width"); ``equal_within`` is the suite's δ;
    ``max_seeds`` and ``spending`` are of the plan of a suite that is run until it is decided
    (:class:`marginbench.runs.seed_plan.SeedPlan`); ``folder`` is the run folder. What a cell
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

    Returns:
        The columns of :data:`COLUMNS`, the rows in the suite's order. Never fails on a damaged or
        missing run folder: that is a state.

    Raises:
        UserError: see :func:`marginbench.runs.suite_runs.open_suite`.
    """
    if isinstance(suite, SuiteRun):
        run = suite
    else:
        for file in plugins:
            load_plugin_file(file)
        run = open_suite(
            str(suite), Path(runs), seeds=seeds, size=size, only=only, more_heads=more_heads
        )
    rows = []
    for folder, label in zip(run.runs, row_labels([r.cell for r in run.runs]), strict=True):
        row = _row(folder, label, run)
        # Before there is a frame: pandas keeps text in Arrow, which has no half surrogate pairs.
        rows.append(row | {name: _printable(row[name]) for name in NAMES})
    frame = pd.DataFrame(rows, columns=COLUMNS)
    return frame.astype(dict.fromkeys((*FRACTIONS, "equal_within", "max_seeds"), float))


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
    """The arrays of a finished cell's final evaluation; see marginbench.evaluation.final.

    Raises:
        DamagedFile: the file does not read well.
    """
    path = folder / "evaluation.npz"
    with damage_named(path):
        return read_arrays(path, array_names(path))


def is_in_evaluation(folder: Path, name: str) -> bool:
    """Whether a finished cell's evaluation has that array, without reading any.

    Raises:
        DamagedFile: the file does not read well.
    """
    path = folder / "evaluation.npz"
    with damage_named(path):
        return name in array_names(path)


def row_labels(cells: list[Cell]) -> list[str]:
    """Head and m, and the parameters that differ between the cells of one head and setting."""
    seen: dict[tuple[str, str], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for cell in cells:
        for name, value in cell.head.parameters.items():
            seen[cell.comparison, cell.head.name][name].add(repr(value))
    labels = []
    for cell in cells:
        varying = seen[cell.comparison, cell.head.name]
        told = {
            name: value
            for name, value in cell.head.parameters.items()
            if name == "m" or len(varying[name]) > 1
        }
        labels.append(f"{cell.head.name} {values_as_text(told)}".strip())
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


def conditions_key(conditions: dict[str, Any], *without: str) -> str:
    """Equal for runs whose conditions differ in nothing else than the named fields."""
    kept = {field: value for field, value in conditions.items() if field not in without}
    return json.dumps(kept, sort_keys=True, default=str)


def varying_conditions(frame: pd.DataFrame) -> list[str]:
    """The fields of the conditions that differ between rows of a frame, in a cell's order."""
    seen: dict[str, set[str]] = {}
    for conditions in frame["conditions"]:
        for field, value in conditions.items():
            seen.setdefault(field, set()).add(repr(value))
    everywhere = [conditions.keys() for conditions in frame["conditions"]]
    return [
        field
        for field, values in seen.items()
        if len(values) > 1 or any(field not in fields for fields in everywhere)
    ]


def conditions_text(conditions: dict[str, Any], fields: list[str]) -> str:
    """Some of the conditions in words: "batch_size=64 weight_decay=0.001"."""
    return values_as_text({f.rpartition(".")[2]: conditions.get(f, "–") for f in fields})


def values_as_text(values: dict[str, Any]) -> str:
    """Named values in one line: "m=4 s=30"."""
    return " ".join(
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in values.items()
    )


def _conditions(cell: Cell) -> dict[str, Any]:
    """Everything of a cell but head, seed and name, flat: "optimiser.learning_rate": 0.1."""
    flat: dict[str, Any] = {}
    parts = [("", cell.model_dump(mode="json", exclude={"head", "seed", "setting"}))]
    while parts:
        path, values = parts.pop(0)
        for field, value in values.items():
            if isinstance(value, dict) and value:
                parts.append((f"{path}{field}.", value))
            else:
                flat[f"{path}{field}"] = value
    return flat


def _printable(value: Any) -> Any:
    """Names as they may be shown: folders, classes and settings are named by whoever made them."""
    if isinstance(value, str):
        return printable_line(value)
    return [_printable(one) for one in value] if isinstance(value, list) else value


def _finished(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["state"].isin([state.value for state in FINISHED])]


def _row(folder: RunFolder, label: str, run: SuiteRun) -> dict[str, Any]:
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
        "is_baseline": cell.head.name == run.suite.baseline,
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
        "conditions": _conditions(cell),
        "equal_within": run.suite.equal_within,
        "max_seeds": run.plan.max_seeds if run.plan else None,
        "spending": run.plan.spending if run.plan else None,
        "key": folder.key,
        "folder": folder.path,
    }
