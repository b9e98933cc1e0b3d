"""Handwritten digits of 8×8 pixels that come with scikit-learn: real images, no download."""

from __future__ import annotations

from functools import cache
from typing import Annotated

import numpy as np
from pydantic import Field

from marginbench.data import ImageData, data_source
from marginbench.data.choices.image_sets import ImageSets
from marginbench.data.choices.splits import (
    Draw,
    SearchShare,
    Split,
    Validation,
    choose_images,
)
from marginbench.plugins.parameters import AddedLater

Digit = Annotated[int, Field(ge=0, le=9)]


@data_source("digits")
def digits(
    split_seed: int | None = None,
    *,
    left_out: tuple[Digit, ...] = (),
    validation: Annotated[Validation, AddedLater("none")] = "none",
    validation_draw: Annotated[Draw, AddedLater(0)] = 0,
    split: Annotated[Split, AddedLater("fixed")] = "fixed",
    search_share: Annotated[SearchShare, AddedLater(0.0)] = 0.0,
) -> ImageData:
    """scikit-learn's 1,797 digits (UCI, Alpaydin and Kaynak, 1998), split once in two halves.

    The split is stratified, and fixed unless it is drawn per seed. Half of the images is left for
    testing because a smaller test set could not distinguish good heads: here one image is 0.11 %
    of error.

    Args:
        left_out: digits that are not trained on. Verification then runs on pairs of their images
            (10 folds of 300 same and 300 different pairs, as in LFW's protocol).
        validation, validation_draw, split, search_share: see
            :func:`marginbench.data.choices.splits.choose_images`.

    Raises:
        UserError: fewer than two digits left out, or fewer than two left to train on.
    """
    # Imported where it is needed: it takes two seconds, and every command knows this source.
    from sklearn.model_selection import train_test_split

    images, labels = _all_digits()
    train, test = train_test_split(
        np.arange(len(labels)), test_size=0.5, random_state=0, stratify=labels
    )
    names = tuple(str(digit) for digit in range(10))
    sets = ImageSets(images[train], labels[train], images[test], labels[test], names)
    # Neither half has enough images for the pairs.
    return choose_images(
        sets,
        validation,
        left_out=left_out,
        pair_images=(images, labels),
        validation_draw=validation_draw,
        split_seed=split_seed,
        search_share=search_share,
    )


@cache
def _all_digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    # Grey values 0…16 spread over 0…255.
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    return images, bunch.target.astype(np.int64)
