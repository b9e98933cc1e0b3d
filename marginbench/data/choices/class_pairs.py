"""Verification pairs of classes that are not trained on, in folds that share no image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from marginbench.data import VerificationPairs
from marginbench.errors import UserError

FOLDS = 10
PAIRS_EACH = 300
FEWEST_PAIRS = 10
IMAGES_A_FOLD = 10
# Pairs within a fold are listed one by one: a bounded number of images keeps that small.
IMAGES_A_CLASS = 100
LEAST_IMAGES = 2000
MOST_NAMED = 10


def pairs_of_classes(
    images: np.ndarray,
    labels: np.ndarray,
    left_out: Sequence[int],
    names: Sequence[str],
    *,
    fewer: bool = False,
) -> VerificationPairs:
    """Pairs of classes that are not trained on: the same for every head and every cell.

    Args:
        images: (M, C, H, W), uint8.
        labels: (M,), integers in [0, K).
        left_out: the classes.
        names: of all K classes.
        fewer: whether there may be fewer folds and pairs than usual where there are few images:
            folds of ten images of each class, two folds at least.

    Raises:
        UserError: classes that are not there or cannot be left out, or too few images of them.
    """
    classes, wanted = len(names), sorted(set(left_out))
    if len(wanted) < len(left_out) or not 2 <= len(wanted) <= classes - 2 or wanted[-1] >= classes:
        raise UserError(
            f"left_out = {list(left_out)} is not allowed; allowed: none, or 2 to {classes - 2} "
            f"different classes from 0 to {classes - 1}"
        )
    per_class = max(IMAGES_A_CLASS, -(-LEAST_IMAGES // len(wanted)))
    chosen = np.sort(
        np.concatenate([np.flatnonzero(labels == value)[:per_class] for value in wanted])
    )
    smallest = min(int(np.sum(labels[chosen] == value)) for value in wanted)
    folds = max(2, min(FOLDS, smallest // IMAGES_A_FOLD)) if fewer else FOLDS
    drawn = _draw(labels[chosen], folds, FEWEST_PAIRS if fewer else PAIRS_EACH)
    first, second, same, fold = drawn
    named = f"the classes {', '.join(names[value] for value in wanted)}"
    if len(wanted) > MOST_NAMED:
        named = f"{len(wanted)} classes"
    return VerificationPairs(
        name="left-out",
        images=torch.from_numpy(np.ascontiguousarray(images[chosen])),
        first=torch.from_numpy(first),
        second=torch.from_numpy(second),
        same=torch.from_numpy(same),
        fold=torch.from_numpy(fold),
        description=f"pairs of {named}, none of them seen in training",
        people=torch.from_numpy(labels[chosen]),
    )


def _draw(
    labels: np.ndarray, fold_count: int, fewest: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Same and different pairs in equal number, in the manner of LFW's view 2.

    The images of each class are distributed over the folds, so that every fold has every class and
    no image is in two folds. Within a fold, pairs are drawn without repetition, same pairs first.

    Args:
        labels: of the images.
        fold_count: how many folds.
        fewest: pairs of either kind that a fold must have; it gets up to PAIRS_EACH.

    Returns:
        first, second: (P,), indices into labels; same: (P,), bool; fold: (P,), int64.
    """
    random = np.random.default_rng(0)
    fold_of_image = np.empty(len(labels), dtype=np.int64)
    for value in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == value))
        fold_of_image[members] = np.arange(len(members)) % fold_count
    folds = [_pairs_within(labels, fold_of_image, number) for number in range(fold_count)]
    each = min(PAIRS_EACH, *(len(left) for fold in folds for left, _ in fold))
    for number, fold in enumerate(folds):
        for kind, (left, _) in zip(("the same class", "different classes"), fold, strict=True):
            if len(left) < fewest:
                raise UserError(
                    f"fold {number} has {len(left)} pairs of {kind}; {fewest} are needed: use "
                    "more images or fewer folds"
                )
    first, second = [], []
    for fold in folds:
        for left, right in fold:
            chosen = random.choice(len(left), size=each, replace=False)
            first.append(left[chosen])
            second.append(right[chosen])
    same = np.tile(np.repeat([True, False], each), fold_count)
    fold_of_pair = np.repeat(np.arange(fold_count), 2 * each)
    return np.concatenate(first), np.concatenate(second), same, fold_of_pair


def _pairs_within(
    labels: np.ndarray, fold_of_image: np.ndarray, number: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Every pair of images of a fold: those of one class, then the others."""
    images = np.flatnonzero(fold_of_image == number)
    left, right = (images[side] for side in np.triu_indices(len(images), k=1))
    is_same = labels[left] == labels[right]
    return [(left[chosen], right[chosen]) for chosen in (is_same, ~is_same)]
