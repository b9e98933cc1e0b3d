"""Verification pairs drawn from labelled images, in folds that share no image."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from marginbench.errors import UserError


def draw_class_pairs(
    labels: np.ndarray, *, folds: int, pairs_each: int, seed: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Same and different pairs in equal number, in the manner of LFW's view 2.

    The images are dealt to the folds class by class, so that every fold has every class and no
    image is in two folds. Within a fold, different pairs are drawn without repetition.

    Args:
        labels: (M,), integers.
        folds: F.
        pairs_each: same pairs, and as many different ones, a fold.
        seed: of the draw; the same pairs for every head and every cell.

    Returns:
        first, second: (P,) int64, indices into labels; same: (P,) bool; fold: (P,) int64;
        P = 2·F·pairs_each, in the folds' order, same pairs first.

    Raises:
        UserError: a fold holds too few pairs.
    """
    random = np.random.default_rng(seed)
    fold_of_image = np.empty(len(labels), dtype=np.int64)
    for value in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == value))
        fold_of_image[members] = np.arange(len(members)) % folds
    parts = []
    for number in range(folds):
        images = np.flatnonzero(fold_of_image == number)
        left, right = np.triu_indices(len(images), k=1)
        is_same = labels[images[left]] == labels[images[right]]
        for wanted in (True, False):
            candidates = np.flatnonzero(is_same == wanted)
            if len(candidates) < pairs_each:
                raise UserError(
                    f"fold {number} has {len(candidates)} pairs of "
                    f"{'the same class' if wanted else 'different classes'}; "
                    f"{pairs_each} are needed: use more images or fewer folds"
                )
            chosen = random.choice(candidates, size=pairs_each, replace=False)
            parts.append((images[left[chosen]], images[right[chosen]], wanted, number))
    return (
        torch.from_numpy(np.concatenate([part[0] for part in parts])),
        torch.from_numpy(np.concatenate([part[1] for part in parts])),
        torch.tensor([part[2] for part in parts]).repeat_interleave(pairs_each),
        torch.tensor([part[3] for part in parts]).repeat_interleave(pairs_each),
    )
