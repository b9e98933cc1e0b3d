"""Verification pairs of classes that are not trained on, in folds that share no image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from marginbench.data import VerificationPairs
from marginbench.errors import UserError

FOLDS = 10
PAIRS_EACH = 300
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

    Up to 300 same and 300 different pairs in each of up to 10 folds: of few images as many as the
    fold with the fewest has. All images of the classes are there to be retrieved, in pairs or not.

    Args:
        images: (M, C, H, W), uint8.
        labels: (M,), integers in [0, K).
        left_out: the classes.
        names: of all K classes.
        fewer: whether folds have ten images of the largest class, so that few images make few
            folds; else two are enough.

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
    chosen = np.flatnonzero(np.isin(labels, wanted))
    # Those that are paired: the first of each class.
    paired = np.sort(
        np.concatenate([np.flatnonzero(labels[chosen] == value)[:per_class] for value in wanted])
    )
    drawn = _draw(labels[chosen][paired], IMAGES_A_FOLD if fewer else 2)
    first, second, same, fold = drawn
    first, second = paired[first], paired[second]
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
        may_be_shown=True,
    )


def _draw(
    labels: np.ndarray, images_a_fold: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Same and different pairs in equal number, in the manner of LFW's view 2.

    The images of each class are distributed over the folds, so that every fold has every class and
    no image is in two folds. Within a fold, pairs are drawn without repetition, same pairs first.

    Args:
        labels: of the images.
        images_a_fold: of the largest class; there are up to ten folds, and two at least.

    Returns:
        first, second: (P,), indices into labels; same: (P,), bool; fold: (P,), int64.
    """
    random = np.random.default_rng(0)
    most = int(np.unique(labels, return_counts=True)[1].max(initial=0))
    folds = max(2, min(FOLDS, most // images_a_fold))
    if most < 4:
        raise UserError(
            f"the classes left out have at most {most} images each; allowed: one or more of 4 "
            "images, so that two folds have a pair of one class"
        )
    fold_of_image = np.empty(len(labels), dtype=np.int64)
    for value in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == value))
        fold_of_image[members] = np.arange(len(members)) % folds
    fewest = min(_fewer_pairs(labels[fold_of_image == number]) for number in range(folds))
    each = min(PAIRS_EACH, fewest)
    if each < 1:
        raise UserError(
            f"{len(labels)} images of {len(np.unique(labels))} classes are too few to verify; "
            "allowed: two classes or more of 4 images or more"
        )
    first, second = [], []
    for number in range(folds):
        images = np.flatnonzero(fold_of_image == number)
        left, right = np.triu_indices(len(images), k=1)
        is_same = labels[images[left]] == labels[images[right]]
        for wanted in (True, False):
            candidates = np.flatnonzero(is_same == wanted)
            chosen = random.choice(candidates, size=each, replace=False)
            first.append(images[left[chosen]])
            second.append(images[right[chosen]])
    same = np.tile(np.repeat([True, False], each), folds)
    fold = np.repeat(np.arange(folds), 2 * each)
    return np.concatenate(first), np.concatenate(second), same, fold


def _fewer_pairs(labels: np.ndarray) -> int:
    """How many pairs there are of the kind, same or different, of which there are fewer."""
    count = np.unique(labels, return_counts=True)[1]
    same = int((count * (count - 1) // 2).sum())
    return min(same, len(labels) * (len(labels) - 1) // 2 - same)
