"""The numbers behind a comparison table: every head of a setting against the baseline."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from marginbench.reporting.significance import (
    LEVEL,
    holm,
    mean_interval,
    paired_p_value,
    shows_spread,
)
from marginbench.runs.results import finished_runs


@dataclass(frozen=True)
class ComparedRow:
    """One head of a setting.

    Attributes:
        label: see :func:`marginbench.runs.conditions.row_labels`.
        is_baseline: whether the others are compared with it.
        test_errors, train_errors: of the finished runs, fractions, in the seeds' order.
        seed_count: finished runs, and of how many if not all: "3", "2 of 3", "2 of 3, 1 diverged".
        mean_difference: of test error to the baseline, over the seeds that both finished.
        interval: 95 % confidence interval of that mean; None with fewer than two such seeds, or
            where they all have the same difference.
        p_value: of the paired test, Holm-corrected over the setting; None where not testable.
    """

    label: str
    is_baseline: bool
    test_errors: list[float]
    train_errors: list[float]
    seed_count: str
    mean_difference: float | None
    interval: tuple[float, float] | None
    p_value: float | None

    @property
    def significant(self) -> bool:
        """Whether the difference deserves a mark."""
        return self.p_value is not None and self.p_value < LEVEL

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
    """Each head of one setting against the first baseline head.

    Args:
        rows: of one comparison (:func:`marginbench.runs.conditions.settings`).
        column: the fraction that is compared; ``test_errors`` of the result holds it.

    Returns:
        One row a label, in the suite's order.
    """
    groups = list(rows.groupby("label", sort=False))
    baseline_label = next((label for label, group in groups if group["is_baseline"].any()), None)
    baseline = {}
    for label, group in groups:
        if label == baseline_label:
            baseline = _by_seed(group, column)
    differences = {}
    for label, group in groups:
        own = _by_seed(group, column)
        shared = sorted(own.keys() & baseline.keys()) if label != baseline_label else []
        differences[label] = [own[seed] - baseline[seed] for seed in shared]
    corrected = holm([paired_p_value(values) for values in differences.values()])
    p_values = dict(zip(differences, corrected, strict=True))
    return [
        _compared_row(label, group, column, label == baseline_label, differences[label], p_values)
        for label, group in groups
    ]


def _compared_row(
    label: str,
    group: pd.DataFrame,
    column: str,
    is_baseline: bool,
    differences: list[float],
    p_values: dict[str, float],
) -> ComparedRow:
    done = finished_runs(group).dropna(subset=[column]).sort_values("seed")
    p_value = p_values[label]
    return ComparedRow(
        label=label,
        is_baseline=is_baseline,
        test_errors=[float(value) for value in done[column]],
        train_errors=[float(value) for value in done["train_error"]],
        seed_count=_seed_count(group),
        mean_difference=sum(differences) / len(differences) if differences else None,
        interval=mean_interval(differences) if shows_spread(differences) else None,
        p_value=None if math.isnan(p_value) else p_value,
    )


def _by_seed(group: pd.DataFrame, column: str) -> dict[int, float]:
    done = finished_runs(group).dropna(subset=[column])
    return dict(zip(done["seed"], done[column].astype(float), strict=True))


def _seed_count(group: pd.DataFrame) -> str:
    states = group["state"].value_counts()
    done = int(states.get("done", 0))
    text = str(done) if done == len(group) else f"{done} of {len(group)}"
    others = [f"{count} {state}" for state, count in states.items() if state != "done"]
    return ", ".join([text, *others])
