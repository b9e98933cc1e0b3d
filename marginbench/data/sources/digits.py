"""Handwritten digits of 8×8 pixels that come with scikit-learn: real images, no download."""

from __future__ import annotations

from functools import cache
from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from marginbench.data import ImageData, VerificationPairs, data_source
from marginbench.data.choices.class_pairs import draw_class_pairs
from marginbench.errors import UserError

Digit = Annotated[int, Field(ge=0, le=9)]


@data_source("digits")
def digits(*, left_out: tuple[Digit, ...] = ()) -> ImageData:
    """scikit-learn's 1,797 digits (UCI, Alpaydin and Kaynak, 1998), split once in two halves.

    The split is stratified and fixed. Half of the images is left for testing because a smaller
    test set could not tell good heads apart: here one image is 0.11 % of error.

    Args:
        left_out: digits that are not trained on. Verification then runs on pairs of their images
            (10 folds of 300 same and 300 different pairs, as in LFW's protocol).

    Raises:
        UserError: fewer than two digits left out, or fewer than two left to train on.
    """
    # Imported where it is needed: it takes two seconds, and every command knows this source.
    from sklearn.model_selection import train_test_split

    images, labels = _all_digits()
    train, test = train_test_split(
        np.arange(len(labels)), test_size=0.5, random_state=0, stratify=labels
    )
    kept = sorted(set(range(10)) - set(left_out))
    if left_out and (len(set(left_out)) < 2 or len(kept) < 2 or len(set(left_out)) < len(left_out)):
        raise UserError(
            f"data source 'digits': left_out = {list(left_out)} is not allowed; allowed: "
            "none, or 2 to 8 different digits"
        )
    new_label = np.full(10, -1)
    new_label[kept] = np.arange(len(kept))
    train, test = train[new_label[labels[train]] >= 0], test[new_label[labels[test]] >= 0]
    return ImageData(
        train_images=torch.from_numpy(images[train]),
        train_labels=torch.from_numpy(new_label[labels[train]]),
        test_images=torch.from_numpy(images[test]),
        test_labels=torch.from_numpy(new_label[labels[test]]),
        class_names=tuple(str(digit) for digit in kept),
        verification=(_pairs_of(images, labels, left_out),) if left_out else (),
    )


@cache
def _all_digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    # Grey values 0…16 spread over 0…255.
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    return images, bunch.target.astype(np.int64)


def _pairs_of(images: np.ndarray, labels: np.ndarray, digits: tuple[int, ...]) -> VerificationPairs:
    chosen = np.flatnonzero(np.isin(labels, digits))
    first, second, same, fold = draw_class_pairs(labels[chosen], folds=10, pairs_each=300, seed=0)
    names = ", ".join(str(digit) for digit in sorted(digits))
    return VerificationPairs(
        name="left-out",
        images=torch.from_numpy(images[chosen]),
        first=first,
        second=second,
        same=same,
        fold=fold,
        description=f"pairs of the digits {names}, none of them seen in training",
        people=torch.from_numpy(labels[chosen]),
    )
