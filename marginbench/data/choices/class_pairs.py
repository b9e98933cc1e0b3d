"""Verification pairs of classes that are not trained on, in folds that share no image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from marginbench.data import VerificationPairs
from marginbench.errors import UserError

FOLDS = 10
PAIRS_EACH = 300
# Pairs within a fold are listed one by one: a bounded number of images keeps that small.
IMAGES_A_CLASS = 100
LEAST_IMAGES = 2000
MOST_NAMED = 10


def pairs_of_classes(
    images: np.ndarray, labels: np.ndarray, left_out: Sequence[int], names: Sequence[str]
) -> VerificationPairs:
    """Pairs of classes that are not trained on: the same for every head and every cell.

    Args:
        images: (M, C, H, W), uint8.
        labels: (M,), integers in [0, K).
        left_out: the classes.
        names: of all K classes.

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
    first, second, same, fold = _draw(labels[chosen])
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


def _draw(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Same and different pairs in equal number, in the manner of LFW's view 2.

    The images of each class are distributed over the folds, so that every fold has every class and
    no image is in two folds. Within a fold, pairs are drawn without repetition, same pairs first.

    Returns:
        first, second: (P,), indices into labels; same: (P,), bool; fold: (P,), int64.
    """
    random = np.random.default_rng(0)
    fold_of_image = np.empty(len(labels), dtype=np.int64)
    for value in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == value))
        fold_of_image[members] = np.arange(len(members)) % FOLDS
    first, second = [], []
    for number in range(FOLDS):
        images = np.flatnonzero(fold_of_image == number)
        left, right = np.triu_indices(len(images), k=1)
        is_same = labels[images[left]] == labels[images[right]]
        for wanted in (True, False):
            candidates = np.flatnonzero(is_same == wanted)
            if len(candidates) < PAIRS_EACH:
                raise UserError(
                    f"fold {number} has {len(candidates)} pairs of "
                    f"{'the same class' if wanted else 'different classes'}; "
                    f"{PAIRS_EACH} are needed: use more images or fewer folds"
                )
            chosen = random.choice(candidates, size=PAIRS_EACH, replace=False)
            first.append(images[left[chosen]])
            second.append(images[right[chosen]])
    same = np.tile(np.repeat([True, False], PAIRS_EACH), FOLDS)
    fold = np.repeat(np.arange(FOLDS), 2 * PAIRS_EACH)
    return np.concatenate(first), np.concatenate(second), same, fold
