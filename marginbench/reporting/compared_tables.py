"""What is compared with what: for every setting the rows of one measure, head by head and seed."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from marginbench.errors import UserError
from marginbench.reporting.verification_results import VerifiedSetting, verified_settings
from marginbench.runs.conditions import settings
from marginbench.runs.results import only_verified
from marginbench.text import quoted

TEST_ERROR = "test_error"
VERIFICATION_ACCURACY = "verification_accuracy"
MAP_AT_R = "map_at_r"
ONE_SHOT_ERROR = "one_shot_error"
MEASURES = {
    TEST_ERROR: "test error",
    VERIFICATION_ACCURACY: "verification accuracy",
    MAP_AT_R: "MAP@R",
    ONE_SHOT_ERROR: "one-shot error",
}
"""In words, by the column of the results frame."""
LOWER_IS_BETTER = (TEST_ERROR, ONE_SHOT_ERROR)


@dataclass(frozen=True)
class ComparedTable:
    """One measure of one setting.

    Attributes:
        setting: its name; of several sets of pairs, with the set's.
        measure: one of :data:`MEASURES`.
        rows: label, is_baseline, seed, state, value (a fraction; NaN where the run has none) and
            folder (None where a run has several), in the suite's order.
        comparisons: of the cells, see :func:`marginbench.runs.results.results`.
        decides: whether it is the setting's measure by which seeds are added, and data sets ranked.
    """

    setting: str
    measure: str
    rows: pd.DataFrame
    comparisons: frozenset[str]
    decides: bool

    @property
    def lower_is_better(self) -> bool:
        """Of errors; not of accuracies."""
        return self.measure in LOWER_IS_BETTER


def compared_tables(results: pd.DataFrame) -> list[ComparedTable]:
    """Of a results frame: the errors of each setting, accuracy and MAP@R of each set of pairs.

    Where classes are verified that were not trained on, they are the question: the accuracy
    decides, as in a search, and the test error of the others does not.
    """
    verified_sets = [(one, _comparisons(one)) for one in verified_settings(results)]
    verified_ones = frozenset[str]().union(*(comparisons for _, comparisons in verified_sets))
    tables = []
    for name, rows in settings(results):
        own = frozenset(rows["comparison"])
        # A set of a protocol of several has no result yet while others show what is verified.
        waits = own <= verified_ones and rows["test_error"].isna().all()
        if waits or only_verified(rows):
            continue
        kept = rows[["label", "is_baseline", "seed", "state", "folder"]]
        kept = kept.assign(value=rows["test_error"].astype(float))
        tables.append(ComparedTable(name, TEST_ERROR, kept, own, not own & verified_ones))
    decided: set[str] = set()
    for verified, comparisons in verified_sets:
        rows = verified.rows
        first = not comparisons & decided
        decided |= comparisons
        kept = rows[["label", "is_baseline", "seed", "state"]].assign(
            value=rows["verification_accuracy"], folder=None
        )
        tables.append(ComparedTable(verified.name, VERIFICATION_ACCURACY, kept, comparisons, first))
        if rows[MAP_AT_R].notna().any():
            kept = kept.assign(value=rows[MAP_AT_R].astype(float))
            tables.append(ComparedTable(verified.name, MAP_AT_R, kept, comparisons, False))
    for name, rows in settings(results):
        if rows[ONE_SHOT_ERROR].notna().any():
            kept = rows[["label", "is_baseline", "seed", "state", "folder"]]
            kept = kept.assign(value=rows[ONE_SHOT_ERROR].astype(float))
            tables.append(
                ComparedTable(name, ONE_SHOT_ERROR, kept, frozenset(rows["comparison"]), False)
            )
    return tables


def _comparisons(verified: VerifiedSetting) -> frozenset[str]:
    return frozenset(key for keys in verified.rows["comparisons"] for key in keys)


def with_baseline(results: pd.DataFrame, head: str) -> pd.DataFrame:
    """The frame with another head as the baseline.

    Args:
        results: see :mod:`marginbench.runs.results`.
        head: a label as the tables show it ("l-softmax m=2"), or the name of a head that has one
            label in every setting.

    Raises:
        UserError: no setting has it, or a name stands for several; the message lists the labels.
    """
    chosen = results["label"] == head
    if not chosen.any():
        chosen = results["head"] == head
        several = results[chosen].groupby("comparison")["label"].nunique()
        if not chosen.any() or (several > 1).any():
            labels = ", ".join(dict.fromkeys(results["label"]))
            why = "stands for several" if chosen.any() else "is not in this suite"
            raise UserError(f"--against {quoted(head)} {why}; allowed: {labels}")
    return results.assign(is_baseline=chosen)
