"""Shares and their intervals: errors of a test set, seeds that are won, images told apart."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from marginbench.reporting.significance import LEVEL


def wilson_interval(share: float, count: int, level: float = 1 - LEVEL) -> tuple[float, float]:
    """The interval of an error rate that comes from the test images being a sample.

    Wilson, Journal of the American Statistical Association, 1927. Runs with other seeds are tested
    on the same images, so that their mean has this uncertainty too, whatever their number.

    Args:
        share: of wrong images, in [0, 1].
        count: test images, N.
        level: of confidence.

    Returns:
        Two values in [0, 1]; NaN without images.
    """
    if count < 1 or math.isnan(share):
        return math.nan, math.nan
    z = stats.norm.isf((1 - level) / 2)
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def chance_of_winning(
    gains: Sequence[float], level: float = 1 - LEVEL
) -> tuple[float, float, float]:
    """P(A > B): the chance that one run of A beats the run of B with the same seed.

    Bouthillier et al., MLSys 2021, decide by it, against 0.75. Its interval here is that of Clopper
    and Pearson (Biometrika, 1934): the bootstrap of a few seeds that are all won has no width.

    Args:
        gains: one a seed, positive where A is better; a tie counts half.
        level: of confidence.

    Returns:
        Estimate, and the ends of the interval; NaN without seeds.
    """
    values = np.asarray(gains, dtype=float)
    count = len(values)
    if not count:
        return math.nan, math.nan, math.nan
    won = float((values > 0).sum() + 0.5 * (values == 0).sum())
    tail = (1 - level) / 2
    low = stats.beta.ppf(tail, won, count - won + 1) if won > 0 else 0.0
    high = stats.beta.isf(tail, won + 1, count - won) if won < count else 1.0
    return won / count, float(low), float(high)


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """Exact two-sided p-value that two runs are wrong on equally many images.

    McNemar, Psychometrika, 1947: of the images that only one of the two gets right, each is as
    likely to be one's as the other's. It speaks of these two runs, not of what trained them.

    Args:
        first, second: (N,), bool: which of the same images each run gets right.

    Returns:
        1 where both are right on the same images.

    Raises:
        ValueError: the two do not have the same length.
    """
    if first.shape != second.shape:
        raise ValueError(f"answers to {len(first)} and to {len(second)} images")
    one, other = int((first & ~second).sum()), int((second & ~first).sum())
    return float(stats.binomtest(one, one + other).pvalue) if one + other else 1.0
