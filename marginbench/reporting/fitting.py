"""Whether a head has fitted its training images: else its test error says little of its margin."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from marginbench.runs.results import finished_runs
from marginbench.text import percent

FAR = 0.5
"""Of the way from the baseline's training error to chance."""
NEAR_CHANCE = 0.8
"""As a share of the error by chance."""
NOT_FITTED = "has not fitted"
"""As tables show it."""


def has_not_fitted(train_error: float, baseline: float, chance: float) -> bool:
    """Whether a training error is far above the baseline's, or near chance.

    A margin makes training harder, so that a higher training error alone is no fault: heads that
    train well end up to a quarter of the way from the baseline's error to chance, and on data that
    are hard for the baseline too (LFW with few iterations: 58 %) up to 0.76 of chance. Heads that
    are not trained (the λ of L-Softmax at 0 from the start, a scale that is too large) lie at 0.6
    of the way and above.

    Args:
        train_error: of the head, the mean over its finished seeds; fractions, as the others.
        baseline: likewise of the baseline; NaN if unknown; its own to ask for the baseline.
        chance: 1 − 1/K.

    Returns:
        False where the training error is unknown (NaN).
    """
    far = train_error - baseline > FAR * (chance - baseline)
    return far or train_error >= NEAR_CHANCE * chance


def error_by_chance(results: pd.DataFrame) -> float:
    """1 − 1/K of the cells of one comparison; 1 if K is not known."""
    # The study's published runs, and folders of earlier versions, do not say K.
    classes = results.get("num_classes", pd.Series(dtype=float)).dropna()
    return 1 - 1 / float(classes.max()) if len(classes) else 1.0


def training(results: pd.DataFrame, labels: list[str], baseline: str) -> pd.DataFrame:
    """How heads of one table have fitted their training images.

    Args:
        results: rows of :func:`marginbench.runs.results.results`, of one comparison.
        labels: of the heads.
        baseline: the label of the baseline.

    Returns:
        A row a label: train_error and baseline_train_error (means over finished seeds, NaN without
        one), not_fitted and baseline_not_fitted. In open sets, of the classes trained on.
    """
    done = finished_runs(results)
    means = done["train_error"].astype(float).groupby(done["label"]).mean()
    chance = error_by_chance(results)
    other = float(means.get(baseline, math.nan))
    rows = {}
    for label in labels:
        own = float(means.get(label, math.nan))
        rows[label] = {
            "train_error": own,
            "baseline_train_error": other,
            "not_fitted": has_not_fitted(own, other, chance),
            "baseline_not_fitted": has_not_fitted(other, other, chance),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def training_errors(row: Any) -> str:
    """ "training error 83.6 %, softmax 0.2 %" of a row of the verdicts."""
    own, other = percent(row.train_error, 1), percent(row.baseline_train_error, 1)
    return f"training error {own} %, {row.baseline} {other} %"


def what_helps(searches: Sequence[str]) -> str:
    """What usually makes a head fit its training images.

    Args:
        searches: commands that search for such parameters.
    """
    return (
        "A head that has not fitted its training images is not trained: its verdict says nothing "
        "of its margin. What usually helps: a λ that falls over the whole run (L-Softmax, "
        "A-Softmax), a smaller scale s or margin m, a lower learning rate, more iterations; "
        f"{' and '.join(searches)} searches for these"
    )
