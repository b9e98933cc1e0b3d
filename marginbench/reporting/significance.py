"""Is a difference between heads real? Paired tests over seeds, corrected for many comparisons."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import special

LEVEL = 0.05
"""A difference is marked if its corrected p-value is below this."""


def shows_spread(values: Sequence[float] | np.ndarray) -> bool:
    """Whether values tell how far the next one may lie: two or more, and not all equal.

    A test set counts errors in whole images, so that a few seeds agree by chance. Their deviation
    of 0 is then an estimate far from the truth, and nothing may be concluded from it.
    """
    array = np.asarray(values, dtype=float)
    return len(array) > 1 and float(np.ptp(array)) > 1e-12


def paired_p_value(differences: Sequence[float]) -> float:
    """Two-sided p-value of Student's paired t-test that the mean difference is 0.

    Args:
        differences: one per seed, of two runs that share the seed.

    Returns:
        NaN where the test says nothing (:func:`shows_spread`).
    """
    values = np.asarray(differences, dtype=float)
    if not shows_spread(values):
        return float("nan")
    count = len(values)
    t = float(values.mean() / values.std(ddof=1)) * math.sqrt(count)
    return float(2 * special.stdtr(count - 1, -abs(t)))


def mean_interval(values: Sequence[float], level: float = 1 - LEVEL) -> tuple[float, float]:
    """Confidence interval of a mean, by Student's t; NaN without :func:`shows_spread`."""
    array = np.asarray(values, dtype=float)
    if not shows_spread(array):
        return float("nan"), float("nan")
    count, mean = len(array), float(array.mean())
    half = float(special.stdtrit(count - 1, (1 + level) / 2) * array.std(ddof=1)) / math.sqrt(count)
    return mean - half, mean + half


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction: p-values that may be compared with the level all at once.

    Controls the chance of even one false mark, whatever the dependence (Holm, Scandinavian Journal
    of Statistics, 1979).

    Args:
        p_values: in [0, 1]; NaN for a comparison that was not tested and does not count.

    Returns:
        The corrected values, in the same order; NaN stays NaN.
    """
    values = np.asarray(p_values, dtype=float)
    tested = np.flatnonzero(~np.isnan(values))
    order = tested[np.argsort(values[tested], kind="stable")]
    factors = len(order) - np.arange(len(order))
    corrected = np.full(len(values), np.nan)
    corrected[order] = np.minimum(1, np.maximum.accumulate(values[order] * factors))
    return corrected.tolist()
