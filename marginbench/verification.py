"""Verification: are two images of one class? Accuracy by LFW's protocol."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class VerificationAccuracy:
    """Accuracy over folds.

    Attributes:
        folds: (F,), the accuracy of each.
        thresholds: (F,), each chosen on the other folds; scores at or above it mean "same".
    """

    folds: np.ndarray
    thresholds: np.ndarray

    @property
    def mean(self) -> float:
        """The accuracy reported."""
        return float(self.folds.mean())

    @property
    def standard_error(self) -> float:
        """Of the mean: the folds' standard deviation (n − 1) over √F, as LFW's results state it."""
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
    scores: np.ndarray, same: np.ndarray, fold: np.ndarray
) -> VerificationAccuracy:
    """Each fold's accuracy at the threshold that is best on all the other folds.

    Huang et al., Labeled Faces in the Wild, 2007, view 2.

    Args:
        scores: (P,), higher means more alike.
        same: (P,), bool.
        fold: (P,), integers.
    """
    scores = np.asarray(scores, dtype=np.float64)
    accuracies, thresholds = [], []
    for number in np.unique(fold):
        held_out = fold == number
        threshold = best_threshold(scores[~held_out], same[~held_out])
        predicted = scores[held_out] >= threshold
        accuracies.append((predicted == same[held_out]).mean())
        thresholds.append(threshold)
    return VerificationAccuracy(np.array(accuracies), np.array(thresholds))
