"""A data set as its files have it, and parts of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from marginbench.data.checks import check_split
from marginbench.errors import UserError


@dataclass(frozen=True)
class ImageSets:
    """A data set as its files have it.

    Attributes:
        train_images, test_images: (N, C, H, W), uint8; no test images (N = 0) only with left_out.
        train_labels, test_labels: (N,), int64, in [0, K).
        class_names: K names.
        left_out: classes that the source itself has for verification and retrieval only.
        named: see :class:`marginbench.data.ImageData`.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]
    left_out: tuple[int, ...] = ()
    named: tuple[np.ndarray, Sequence[str]] | None = None

    @property
    def splits(
        self,
    ) -> tuple[tuple[Literal["training", "test"], np.ndarray, np.ndarray], ...]:
        """Name, images and labels of both."""
        return (
            ("training", self.train_images, self.train_labels),
            ("test", self.test_images, self.test_labels),
        )


def check_sets(sets: ImageSets) -> None:
    """Make sure that there are images to train on and that images, labels and names agree.

    Raises:
        UserError: they do not.
    """
    for split, images, labels in sets.splits:
        if not len(images) and (split == "training" or not sets.left_out):
            raise UserError(f"there is no {split} image")
        check_split(split, images, labels, sets.class_names)
    if sets.train_images.shape[1:] != sets.test_images.shape[1:]:
        raise UserError(
            f"training images are {sets.train_images.shape[1:]} (channels, height, width) and "
            f"test images {sets.test_images.shape[1:]}; they must agree"
        )


def stratified(labels: np.ndarray, count: int, seed: int | Sequence[int]) -> np.ndarray:
    """Indices of ``count`` images, drawn so that every class keeps its share; sorted.

    Shares are rounded down, and what is left over goes to the largest remainders.

    Args:
        labels: (N,).
        count: at most N.
        seed: of the draw.
    """
    random = np.random.default_rng(seed)
    values, counts = np.unique(labels, return_counts=True)
    exact = counts * (count / len(labels))
    # Rounded first: 10 · 0.1 must not become 0.9999.
    wanted = np.floor(np.round(exact, 9)).astype(int)
    largest = np.argsort(wanted - exact, kind="stable")
    wanted[largest[: count - wanted.sum()]] += 1
    chosen = [
        random.permutation(np.flatnonzero(labels == value))[:number]
        for value, number in zip(values, wanted, strict=True)
    ]
    return np.sort(np.concatenate(chosen))


def split_by(
    images: np.ndarray, labels: np.ndarray, test: np.ndarray, sets: ImageSets
) -> ImageSets:
    """The images in two, and everything else as it was.

    Args:
        images: (N, C, H, W).
        labels: (N,).
        test: indices of those that are for testing, in their order.
        sets: has the names.
    """
    train = np.setdiff1d(np.arange(len(labels)), test)
    return replace(
        sets,
        train_images=images[train],
        train_labels=labels[train],
        test_images=images[test],
        test_labels=labels[test],
    )


def without_classes(sets: ImageSets, left_out: Sequence[int]) -> ImageSets:
    """Without the images of some classes; the others are numbered anew in the same order."""
    kept = [k for k in range(len(sets.class_names)) if k not in set(left_out)]
    new_label = np.full(len(sets.class_names), -1)
    new_label[kept] = np.arange(len(kept))
    train, test = new_label[sets.train_labels] >= 0, new_label[sets.test_labels] >= 0
    return replace(
        sets,
        train_images=sets.train_images[train],
        train_labels=new_label[sets.train_labels[train]],
        test_images=sets.test_images[test],
        test_labels=new_label[sets.test_labels[test]],
        class_names=tuple(sets.class_names[k] for k in kept),
        left_out=(),
    )
