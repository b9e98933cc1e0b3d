"""What has come out for verification: one row a head and seed, a protocol's cells put together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from marginbench.evaluation import RETRIEVAL
from marginbench.evaluation.receiver_operating import Characteristic, characteristic
from marginbench.runs.cell_status import State
from marginbench.runs.conditions import conditions_key, settings
from marginbench.runs.results import evaluation, finished_runs
from marginbench.text import distinct

TESTED_SET = "data.parameters.tested_set"

INCOMPLETE = "incomplete"


@dataclass(frozen=True)
class TestedPairs:
    """The scores of one run, or of all the cells of a protocol that needs several.

    Attributes:
        scores: (Q,).
        same: (Q,), bool.
        fold: (Q,).
        people: the first and second person of each pair, (Q,) each; None where unknown.
    """

    scores: np.ndarray
    same: np.ndarray
    fold: np.ndarray
    people: tuple[np.ndarray, np.ndarray] | None

    def characteristic(self, right: np.ndarray) -> Characteristic:
        """See :func:`marginbench.evaluation.receiver_operating.characteristic`."""
        return characteristic(self.scores, self.same, right, self.people)


@dataclass(frozen=True)
class VerifiedSetting:
    """A setting and one of its sets of pairs.

    Attributes:
        name: of the setting, and of the set where there are several.
        set_name: as the data source calls it.
        description: what is verified.
        cells_a_run: how many cells make up one run of a head: ten where each tests one set.
        rows: one a head and seed, in the suite's order: label, is_baseline, seed, state (done
            where all cells are, diverged where one is), verification_accuracy and
            verification_standard_error (between folds), those of :data:`RETRIEVAL` (NaN where a
            cell has none), train_error, entries (the cells' numbers, see
            :func:`evaluate_verification`), folders and comparisons (of the cells).
    """

    name: str
    set_name: str
    description: str
    cells_a_run: int
    rows: pd.DataFrame

    def done(self) -> pd.DataFrame:
        """The rows that are complete."""
        return self.rows[self.rows["state"] == State.DONE.value]

    @property
    def of_first(self) -> str:
        """What is told of one cell where a run has several: " (in the first of 10 trainings)"."""
        return f" (in the first of {self.cells_a_run} trainings)" if self.cells_a_run > 1 else ""

    def tested_pairs(self, row: Any) -> TestedPairs:
        """The scores of one of the complete rows (as ``itertuples`` gives them)."""
        parts = []
        for folder in row.folders:
            arrays = evaluation(folder)
            prefix = f"verification/{self.set_name}/"
            parts.append(
                {k.removeprefix(prefix): a for k, a in arrays.items() if k.startswith(prefix)}
            )
        joined = {
            name: np.concatenate([part[name] for part in parts])
            for name in ("scores", "same", "fold")
        }
        people = None
        if all("people" in part for part in parts):
            both = _numbered_apart([part["people"] for part in parts])
            people = (both[0], both[1])
        return TestedPairs(**joined, people=people)

    def characteristic(self, row: Any) -> Characteristic:
        """Area, equal error rate and TAR at FARs of one of the complete rows.

        Where the row is one cell, its result has them; of several cells their pairs are put
        together.
        """
        if len(row.entries) == 1:
            return Characteristic.of_numbers(row.entries[0]["characteristic"])
        pairs = self.tested_pairs(row)
        thresholds = {
            int(fold): threshold
            for entry in row.entries
            for fold, threshold in zip(entry["folds"], entry["thresholds"], strict=True)
        }
        threshold = np.array([thresholds[int(fold)] for fold in pairs.fold])
        return pairs.characteristic((pairs.scores >= threshold) == pairs.same)


def _numbered_apart(parts: list[np.ndarray]) -> np.ndarray:
    """The people of several cells' pairs, (2, Q_1), (2, Q_2), … → (2, Q), no number twice.

    Each cell numbers its people from 0, and nobody is in two of a protocol's tested sets.
    """
    counts = [int(part.max(initial=-1)) + 1 for part in parts]
    starts = np.cumsum([0, *counts[:-1]])
    return np.concatenate([part + start for part, start in zip(parts, starts, strict=True)], axis=1)


def verified_settings(results: pd.DataFrame) -> list[VerifiedSetting]:
    """Every setting with finished verification, once for each of its sets of pairs."""
    found = []
    for name, rows in _protocols(results):
        done = finished_runs(rows).dropna(subset=["verification_accuracy"])
        if done.empty:
            continue
        entries = done.iloc[0]["verification"]
        cells = int(rows.groupby(["label", "seed"]).size().max())
        for entry in entries:
            found.append(
                VerifiedSetting(
                    name=name if len(entries) == 1 else f"{name}: {entry['name']}",
                    set_name=entry["name"],
                    description=entry["description"],
                    cells_a_run=cells,
                    rows=_runs(rows, entry["name"]),
                )
            )
    names = distinct(one.name for one in found)
    return [replace(one, name=name) for one, name in zip(found, names, strict=True)]


def _protocols(results: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Settings, those put together that test one set each of a protocol of several.

    Those only that differ in nothing else.
    """
    together: dict[tuple[str, str], list[pd.DataFrame]] = {}
    for name, rows in settings(results):
        first = rows.iloc[0]
        several = first["data_parameters"].get("tested_set") is not None and first["setting"]
        own = (first["setting"], conditions_key(first["conditions"], TESTED_SET))
        together.setdefault(own if several else (name, ""), []).append(rows)
    for name, parts in zip(distinct(key[0] for key in together), together.values(), strict=True):
        yield name, pd.concat(parts)


def _runs(rows: pd.DataFrame, set_name: str) -> pd.DataFrame:
    records = []
    for (label, seed), cells in rows.groupby(["label", "seed"], sort=False):
        done = finished_runs(cells)
        entries = [
            next(entry for entry in found if entry["name"] == set_name)
            for found in done["verification"]
        ]
        complete = len(done) == len(cells)
        folds = [value for entry in entries for value in entry["folds"].values()]
        alone = len(cells) == 1
        # Of a protocol's cells one that diverged is enough: the run has no accuracy.
        diverged = (cells["state"] == State.DIVERGED.value).any()
        unfinished = State.DIVERGED.value if diverged else INCOMPLETE
        records.append(
            {
                "label": label,
                "is_baseline": bool(cells["is_baseline"].any()),
                "seed": seed,
                "state": cells["state"].iloc[0] if alone or complete else unfinished,
                "verification_accuracy": float(np.mean(folds)) if complete else None,
                "verification_standard_error": _standard_error(folds) if complete else None,
                **{name: _retrieval(entries, name) if complete else None for name in RETRIEVAL},
                "train_error": float(done["train_error"].mean()) if complete else None,
                "entries": entries,
                "folders": list(done["folder"]),
                "comparisons": tuple(cells["comparison"]),
            }
        )
    frame = pd.DataFrame(records)
    numbers = ("verification_accuracy", "verification_standard_error", *RETRIEVAL)
    return frame.astype(dict.fromkeys(numbers, float))


def _retrieval(entries: list[dict[str, Any]], name: str) -> float | None:
    """The mean over a run's cells; None where one of them has none."""
    found = [entry.get("retrieval") for entry in entries]
    return None if None in found else float(np.mean([one[name] for one in found if one]))


def _standard_error(folds: list[float]) -> float | None:
    return float(np.std(folds, ddof=1) / np.sqrt(len(folds))) if len(folds) > 1 else None
