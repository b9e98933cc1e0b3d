"""FAR and TAR at every threshold, of pairs that count once or as often as they were drawn.

False acceptance rate (FAR): the share of different pairs accepted as "same". True acceptance rate
(TAR): the share of same pairs accepted. A pair is accepted if its score is at or above the
threshold, so pairs of equal score are accepted together or not at all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Rates:
    """Rates at every threshold that can matter, for one or many weightings of the pairs.

    Attributes:
        far, tar: (R, G + 1): none accepted first, then down to each of the G distinct scores.
        thresholds: (G + 1,), falling, infinity first.
    """

    far: np.ndarray
    tar: np.ndarray
    thresholds: np.ndarray

    def area(self) -> np.ndarray:
        """(R,), the area under the curve: the chance that a same pair outranks a different one."""
        width = np.diff(self.far, axis=1)
        return (width * (self.tar[:, 1:] + self.tar[:, :-1]) / 2).sum(axis=1)

    def equal_error_rate(self) -> np.ndarray:
        """(R,), where FAR = 1 − TAR, on the straight line between neighbouring points."""
        rows = np.arange(len(self.far))
        # FAR − (1 − TAR) rises from −1 to 1, so there is a first point at or above 0, and it is not
        # the first one. It is looked for by halving: only log G of the columns are looked at.
        before, after = np.zeros_like(rows), np.full_like(rows, self.far.shape[1] - 1)
        while (after - before > 1).any():
            middle = (before + after) // 2
            reached = self._difference(rows, middle) >= 0
            after = np.where(reached, middle, after)
            before = np.where(reached, before, middle)
        low, high = self._difference(rows, after - 1), self._difference(rows, after)
        share = -low / (high - low)
        far_low, far_high = self.far[rows, after - 1], self.far[rows, after]
        return far_low + share * (far_high - far_low)

    def _difference(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return self.far[rows, columns] - (1 - self.tar[rows, columns])

    def tar_at(self, far: float) -> np.ndarray:
        """(R,), the highest TAR at any threshold whose FAR is at most that."""
        last = [np.searchsorted(own, far, side="right") - 1 for own in self.far]
        return self.tar[np.arange(len(last)), last]


@dataclass(frozen=True)
class Ranking:
    """The pairs from the highest score down.

    Attributes:
        order: (P,), of the pairs.
        same: (P,), in that order.
        ends: (G,), the last place of each distinct score.
        thresholds: see :class:`Rates`.
    """

    order: np.ndarray
    same: np.ndarray
    ends: np.ndarray
    thresholds: np.ndarray

    def rates(self, weights: np.ndarray) -> Rates:
        """FAR and TAR of weights, (R, P), in that order."""
        same = self._counted(weights * self.same)
        # The counts are whole, so that this is exact.
        different = self._counted(weights) - same
        with np.errstate(invalid="ignore"):
            far, tar = (counted / counted[:, -1:] for counted in (different, same))
        return Rates(far, tar, self.thresholds)

    def _counted(self, weights: np.ndarray) -> np.ndarray:
        counted = np.zeros((len(weights), len(self.ends) + 1))
        if len(self.ends) == weights.shape[1]:
            np.cumsum(weights, axis=1, out=counted[:, 1:])
        else:
            counted[:, 1:] = np.cumsum(weights, axis=1).take(self.ends, axis=1)
        return counted


def ranking_of(scores: np.ndarray, same: np.ndarray) -> Ranking:
    """The ranking of pairs by their scores; see :func:`rates`."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    ends = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    return Ranking(order, same[order], ends, np.append(np.inf, ordered[ends]))


def rates(scores: np.ndarray, same: np.ndarray, weights: np.ndarray | None = None) -> Rates:
    """FAR and TAR at every threshold.

    Args:
        scores: (P,), higher means more alike.
        same: (P,), bool; both kinds must occur.
        weights: (R, P), whole numbers, 0 and above; None counts each pair once (R = 1). A weighting
            without same, or without different pairs has NaN rates.
    """
    if weights is None:
        weights = np.ones((1, len(scores)))
    ranking = ranking_of(scores, same)
    return ranking.rates(weights[:, ranking.order])
