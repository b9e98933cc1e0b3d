"""What a data source has loaded, checked for shape, label range and folds."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from marginbench.data import ImageData, VerificationPairs
from marginbench.errors import UserError


def check_split(
    split: Literal["training", "test"],
    images: Tensor | np.ndarray,
    labels: Tensor | np.ndarray,
    class_names: tuple[str, ...],
) -> None:
    """Refuse a damaged part of a data set.

    Args:
        split: which part; only training must have every class.
        images: (N, C, H, W), uint8.
        labels: (N,), int64, in [0, K).
        class_names: K names.

    Raises:
        UserError: another type or shape, a label out of range, or a class without training images.
    """
    dtype = str(images.dtype).removeprefix("torch.")
    if dtype != "uint8" or images.ndim != 4 or len(images) != len(labels):
        raise UserError(
            f"{split} images must be uint8 (N, C, H, W) with N labels; they are {dtype} "
            f"{tuple(images.shape)} with {len(labels)} labels"
        )
    numbers, classes = np.asarray(labels), len(class_names)
    wrong = numbers[(numbers < 0) | (numbers >= classes)]
    if len(wrong):
        raise UserError(f"{split} label {wrong[0]} is not allowed; allowed: 0 to {classes - 1}")
    empty = np.flatnonzero(np.bincount(numbers, minlength=classes) == 0)
    if split == "training" and len(empty):
        raise UserError(f"class {class_names[empty[0]]!r} has no training image")


def check_pairs(pairs: VerificationPairs, data: ImageData) -> None:
    """Refuse a verification set that is not of images like those trained on.

    Raises:
        UserError: images of another type or shape, pairs of images that are not there, or too few
            folds.
    """
    owner = f"verification set {pairs.name!r}"
    count = len(pairs.images)
    if pairs.images.dtype != torch.uint8 or pairs.images.shape[1:] != data.train_images.shape[1:]:
        raise UserError(
            f"{owner}: its images are {pairs.images.dtype} {tuple(pairs.images.shape[1:])}, and "
            f"those trained on are uint8 {data.image_shape}; they must be alike"
        )
    indices = torch.cat([pairs.first, pairs.second])
    if len(indices) == 0 or indices.min() < 0 or indices.max() >= count:
        raise UserError(f"{owner}: its pairs must be of images 0 to {count - 1}, at least one pair")
    tested = pairs.tested_folds
    folds = set(pairs.fold.tolist())
    if len(folds) < 2 or (tested is not None and not set(tested) <= folds):
        raise UserError(
            f"{owner}: it has the folds {sorted(folds)} and tests {tested}; "
            "two folds or more are needed, one of them to choose the threshold on"
        )
