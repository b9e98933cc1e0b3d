"""How many seeds a paired test needs, by the noncentral t distribution."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from scipy import special, stats

from marginbench.reporting.significance import LEVEL, shows_spread

POWER = 0.8
"""The chance with which a difference as large as the one seen is to be found."""
MOST_SEEDS = 10_000
"""More are not searched for."""
_QUANTILES = 2000


def power_of_difference(effect: float, seeds: int, level: float = LEVEL) -> float:
    """The chance that the two-sided paired t-test finds a difference.

    Args:
        effect: mean over standard deviation of the differences.
        seeds: n, at least 2.
        level: of the test, after correction.

    Returns:
        P(|T| > t), T noncentral t with n − 1 degrees of freedom and noncentrality effect·√n.
    """
    freedom, shift = seeds - 1, abs(effect) * math.sqrt(seeds)
    critical = float(stats.t.isf(level / 2, freedom))
    return _above(critical, freedom, shift) + _above(critical, freedom, -shift)


def power_of_equality(
    mean: float, deviation: float, within: float, seeds: int, level: float = LEVEL
) -> float:
    """The chance that the interval of the mean difference comes to lie inside ±δ: a lower bound.

    It is P(first one-sided test) + P(second) − 1, which is exact but for the case that neither
    rejects (Phillips, Journal of Pharmacokinetics and Biopharmaceutics, 1990, has the integral).

    Args:
        mean, deviation: of the differences.
        within: δ.
        seeds: n, at least 2.
        level: the interval has the confidence 1 − level.
    """
    freedom, error = seeds - 1, deviation / math.sqrt(seeds)
    critical = float(stats.t.isf(level / 2, freedom))
    above = _above(critical, freedom, (within + mean) / error)
    below = _above(critical, freedom, (within - mean) / error)
    return max(0.0, above + below - 1)


def seeds_for_difference(effect: float, level: float = LEVEL, power: float = POWER) -> float:
    """The fewest seeds with which :func:`power_of_difference` reaches ``power``.

    Returns:
        A whole number of at least 2; infinity above 10,000 and for an effect of 0 or NaN.
    """
    if not abs(effect) > 0:
        return math.inf
    if math.isinf(effect):
        return 2
    return _fewest(lambda seeds: power_of_difference(effect, seeds, level) >= power)


def seeds_for_equality(
    mean: float,
    deviation: float,
    within: float,
    level: float = LEVEL,
    power: float = POWER,
) -> float:
    """The fewest seeds with which :func:`power_of_equality` reaches ``power``.

    Returns:
        A whole number of at least 2; infinity above 10,000, and where the mean is not inside ±δ.
    """
    if not abs(mean) < within or not deviation > 0:
        return math.inf
    return _fewest(lambda seeds: power_of_equality(mean, deviation, within, seeds, level) >= power)


def _above(critical: float, freedom: int, shift: float) -> float:
    """P(T > critical) of the noncentral t: a normal variable over the root of a mean square.

    Summed over quantiles of the mean square; scipy's nct is NaN where the shift is large.
    """
    return float(special.ndtr(shift - critical * _roots(freedom)).mean())


@lru_cache(maxsize=256)
def _roots(freedom: int) -> np.ndarray:
    """Quantiles of the root of a mean square; they take nearly all of the time."""
    quantiles = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
    return np.sqrt(special.chdtri(freedom, quantiles) / freedom)


def _fewest(enough: Callable[[int], bool]) -> float:
    """By bisection: the power grows with the number of seeds."""
    if not enough(MOST_SEEDS):
        return math.inf
    low, high = 1, 2
    while not enough(high):
        low, high = high, min(2 * high, MOST_SEEDS)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def more_seeds(differences: list[float], level: float, within: float | None) -> float:
    """How many seeds more would decide with 80 % power if the mean and spread seen are true.

    Args:
        differences: by seed.
        level: of the test.
        within: δ of equality, None without one; whichever of difference and equality needs fewer.

    Returns:
        At least 1; infinity above 10,000, NaN where the differences show no spread.
    """
    if not shows_spread(differences):
        return math.nan
    mean = sum(differences) / len(differences)
    deviation = float(np.std(differences, ddof=1))
    needed = seeds_for_difference(mean / deviation, level)
    if within:
        needed = min(needed, seeds_for_equality(mean, deviation, within, level))
    return max(1.0, needed - len(differences))
