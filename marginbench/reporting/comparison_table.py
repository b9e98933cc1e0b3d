"""The numbers of every head of a setting by themselves, as tables and figures show them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from marginbench.runs.results import finished_runs


@dataclass(frozen=True)
class ComparedRow:
    """One head of a setting. What it gains on the baseline: marginbench.reporting.verdicts.

    Attributes:
        label: see :func:`marginbench.runs.results.row_labels`.
        is_baseline: whether the others are compared with it.
        test_errors, train_errors: of the finished runs, fractions, in the seeds' order.
        seed_count: finished runs, and of how many if not all: "3", "2 of 3", "2 of 3, 1 diverged".
    """

    label: str
    is_baseline: bool
    test_errors: list[float]
    train_errors: list[float]
    seed_count: str

    @property
    def mean_gap(self) -> float | None:
        """Mean test error minus mean training error."""
        if not self.test_errors:
            return None
        count = len(self.test_errors)
        return (sum(self.test_errors) - sum(self.train_errors)) / count

    @property
    def mean_test_error(self) -> float:
        """NaN where no run finished."""
        return sum(self.test_errors) / len(self.test_errors) if self.test_errors else math.nan


def compare(rows: pd.DataFrame, column: str = "test_error") -> list[ComparedRow]:
    """Each head of one setting; the first that may be is the baseline.

    Args:
        rows: of one comparison (:func:`marginbench.runs.results.settings`).
        column: the fraction that is compared; ``test_errors`` of the result holds it.

    Returns:
        One row a label, in the suite's order.
    """
    groups = list(rows.groupby("label", sort=False))
    baseline = next((label for label, group in groups if group["is_baseline"].any()), None)
    compared = []
    for label, group in groups:
        done = finished_runs(group).dropna(subset=[column]).sort_values("seed")
        compared.append(
            ComparedRow(
                label=label,
                is_baseline=label == baseline,
                test_errors=[float(value) for value in done[column]],
                train_errors=[float(value) for value in done["train_error"]],
                seed_count=_seed_count(group),
            )
        )
    return compared


def _seed_count(group: pd.DataFrame) -> str:
    states = group["state"].value_counts()
    done = int(states.get("done", 0))
    text = str(done) if done == len(group) else f"{done} of {len(group)}"
    others = [f"{count} {state}" for state, count in states.items() if state != "done"]
    return ", ".join([text, *others])
