"""Verification: are two images of one class? Accuracy by LFW's protocol."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class VerificationAccuracy:
    """Accuracy over the tested folds.

    Attributes:
        tested: (T,), the folds' numbers.
        folds: (T,), the accuracy of each.
        thresholds: (T,), each chosen on all other folds; scores at or above it mean "same".
        pairs: (Q,), the indices of the tested folds' pairs.
        scores: (Q,), their scores.
        right: (Q,), bool, whether each was decided rightly.
        beyond: (Q,), the scores less their fold's threshold.
    """

    tested: np.ndarray
    folds: np.ndarray
    thresholds: np.ndarray
    pairs: np.ndarray
    scores: np.ndarray
    right: np.ndarray
    beyond: np.ndarray

    @property
    def mean(self) -> float:
        """The accuracy reported."""
        return float(self.folds.mean())

    @property
    def standard_error(self) -> float | None:
        """Of the mean: the folds' standard deviation (n − 1) over √T, as LFW's results state it.

        None with one tested fold.
        """
        if len(self.folds) < 2:
            return None
        return float(self.folds.std(ddof=1) / np.sqrt(len(self.folds)))


def best_threshold(scores: np.ndarray, same: np.ndarray) -> float:
    """The threshold with the highest accuracy; exact, since every split of the scores is tried.

    The candidates lie halfway between neighbouring distinct scores, and beyond both ends. Of
    several best ones the middle one is taken (the lower of two), which favours neither error.

    Args:
        scores: (P,), higher means more alike.
        same: (P,), bool.
    """
    distinct, group = np.unique(scores, return_inverse=True)
    same_count = np.bincount(group, weights=same, minlength=len(distinct))
    different_count = np.bincount(group, weights=~same, minlength=len(distinct))
    # Candidate i calls the groups i, i+1, … "same" and those before "different".
    correct = np.concatenate([[0], np.cumsum(different_count)]) + np.concatenate(
        [np.cumsum(same_count[::-1])[::-1], [0]]
    )
    best = np.flatnonzero(correct == correct.max())
    chosen = best[(len(best) - 1) // 2]
    if chosen == 0:
        return float(distinct[0])
    if chosen == len(distinct):
        return float(np.nextafter(distinct[-1], np.inf))
    low, high = float(distinct[chosen - 1]), float(distinct[chosen])
    middle = low + (high - low) / 2
    # Halfway between two neighbouring floats is one of them: it must not be the lower one.
    return middle if middle > low else high


def verification_accuracy(
    scores: np.ndarray | Callable[[int], np.ndarray],
    same: np.ndarray,
    fold: np.ndarray,
    tested: Sequence[int] | None = None,
) -> VerificationAccuracy:
    """Each tested fold's accuracy at the threshold that is best on all the other folds.

    Huang et al., Labeled Faces in the Wild, 2007, view 2.

    Args:
        scores: (P,), higher means more alike; or a function from a tested fold to (P,), where
            what is fitted on the other folds (PCA, say) makes each fold's scores.
        same: (P,), bool.
        fold: (P,), integers.
        tested: the folds that count; None for all.
    """
    numbers = np.unique(fold) if tested is None else np.asarray(tested)
    accuracies, thresholds, parts = [], [], []
    for number in numbers:
        values = scores(int(number)) if callable(scores) else scores
        values = np.asarray(values, dtype=np.float64)
        held_out = fold == number
        threshold = best_threshold(values[~held_out], same[~held_out])
        right = (values[held_out] >= threshold) == same[held_out]
        accuracies.append(right.mean())
        thresholds.append(threshold)
        beyond = values[held_out] - threshold
        parts.append((np.flatnonzero(held_out), values[held_out], right, beyond))
    pairs, tested_scores, right, beyond = (
        np.concatenate(part) for part in zip(*parts, strict=True)
    )
    order = np.argsort(pairs)
    return VerificationAccuracy(
        tested=numbers,
        folds=np.array(accuracies),
        thresholds=np.array(thresholds),
        pairs=pairs[order],
        scores=tested_scores[order],
        right=right[order],
        beyond=beyond[order],
    )
