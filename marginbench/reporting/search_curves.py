"""The expected best validation error of a search, by its number of trials."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class ExpectedBest(NamedTuple):
    """Of a number of trials: the mean of the lowest error, and its standard deviation."""

    mean: float
    deviation: float


def expected_best(own: float, drawn: Sequence[float]) -> list[ExpectedBest]:
    """The lowest error of 1, 2, … trials, as it is to be expected.

    The first trial is the suite's own values, and is no chance; the n − 1 others are drawn with
    replacement from those that were tried: with v_1 ≤ … ≤ v_M their errors, where the own one
    stands for whatever is higher, P(min = v_i) = ((M − i + 1)/M)^(n−1) − ((M − i)/M)^(n−1) (Dodge
    et al., *Show Your Work*, EMNLP 2019, Eq. 7, for a minimum).

    Args:
        own: error of the first trial.
        drawn: errors of the others, all finite.

    Returns:
        One entry for each number of trials from 1 to 1 + M.
    """
    best = [ExpectedBest(own, 0.0)]
    count = len(drawn)
    values = np.minimum(np.sort(np.asarray(drawn, dtype=float)), own)
    left = np.arange(count, -1, -1) / max(count, 1)
    for draws in range(1, count + 1):
        chances = left[:-1] ** draws - left[1:] ** draws
        mean = float(chances @ values)
        variance = float(chances @ (values - mean) ** 2)
        best.append(ExpectedBest(mean, math.sqrt(variance)))
    return best
