"""Two single runs by their answers on the same test images: McNemar's test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from marginbench.errors import DamagedFile
from marginbench.reporting.proportions import mcnemar
from marginbench.runs.results import evaluation


def same_images_p_value(
    own: pd.DataFrame, other: pd.DataFrame, pairs: Sequence[tuple[int, float, float]]
) -> float:
    """McNemar's p-value, where there is one pair of runs and both keep their answers; else NaN.

    Args:
        own, other: rows of a results frame, of one head each.
        pairs: (seed, value, value) of the seeds that both finished.
    """
    if len(pairs) != 1:
        return math.nan
    seed = pairs[0][0]
    answers = [_right_answers(rows, seed) for rows in (own, other)]
    if answers[0] is None or answers[1] is None or len(answers[0]) != len(answers[1]):
        return math.nan
    return mcnemar(answers[0], answers[1])


def _right_answers(rows: pd.DataFrame, seed: int) -> np.ndarray | None:
    """Which test images the run of a seed gets right, as bits; None where it does not say.

    The last byte is filled up with images that both get wrong, which say nothing in McNemar's test.
    """
    folder = rows.loc[rows["seed"] == seed, "folder"].iloc[0]
    if not isinstance(folder, Path):
        return None
    try:
        arrays = evaluation(folder)
    except DamagedFile:
        return None
    if "test_right" not in arrays:
        return None
    return np.unpackbits(arrays["test_right"]).astype(bool)
