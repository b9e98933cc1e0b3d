"""From whole training and test sets to what a cell asked for: parts, held-out images, open sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from marginbench.data import ImageData, VerificationPairs
from marginbench.data.choices.class_pairs import draw_class_pairs
from marginbench.errors import UserError

Validation = Literal["none", "held-out"]
"""What a cell is tested on. "none": the test set. "held-out": the test set is not looked at; a
tenth of the training set, the same share of each class, is left out of training and stands in for
it (of CIFAR's 50,000 images 45,000 train and 5,000 test, as in the paper)."""

HELD_OUT_SHARE = 0.1
FOLDS = 10
PAIRS_EACH = 300
PAIR_IMAGES_A_CLASS = 100


@dataclass(frozen=True)
class ImageSets:
    """A data set as its files have it.

    Attributes:
        train_images, test_images: (N, C, H, W), uint8.
        train_labels, test_labels: (N,), int64, in [0, K).
        class_names: K names.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]


def choose_images(
    owner: str,
    sets: ImageSets,
    *,
    validation: Validation = "none",
    train_count: int | None = None,
    test_count: int | None = None,
    left_out: Sequence[int] = (),
) -> ImageData:
    """What a cell trains, tests and verifies on. Every choice is fixed, whatever the cell's seed.

    Args:
        owner: for messages ("data source 'mnist'").
        sets: the whole data set.
        validation: see :data:`Validation`.
        train_count: train on so many images, the same share of each class; None for all.
        test_count: test on so many.
        left_out: classes that are not trained on; verification runs on pairs of their images (10
            folds of 300 same and 300 different pairs, as in LFW's protocol), taken from the test
            set, or with "held-out" from the training set.

    Raises:
        UserError: labels out of range, a class without images, counts that leave a class without
            images, or classes that cannot be left out.
    """
    check_sets(owner, sets)
    verification: tuple[VerificationPairs, ...] = ()
    if left_out:
        verification = (_pairs(owner, sets, left_out, from_train=validation == "held-out"),)
        sets = _without_classes(sets, left_out)
    if validation == "held-out":
        sets = _hold_out(owner, sets)
    train = _share(owner, "train_count", sets.train_labels, train_count)
    test = _share(owner, "test_count", sets.test_labels, test_count)
    return ImageData(
        train_images=torch.from_numpy(np.ascontiguousarray(sets.train_images[train])),
        train_labels=torch.from_numpy(sets.train_labels[train]),
        test_images=torch.from_numpy(np.ascontiguousarray(sets.test_images[test])),
        test_labels=torch.from_numpy(sets.test_labels[test]),
        class_names=sets.class_names,
        verification=verification,
    )


def check_sets(owner: str, sets: ImageSets) -> None:
    """Refuse a damaged data set.

    Raises:
        UserError: images and labels of different number or shape, a label out of range, or a
            class without training images.
    """
    classes = len(sets.class_names)
    for split, images, labels in (
        ("training", sets.train_images, sets.train_labels),
        ("test", sets.test_images, sets.test_labels),
    ):
        if len(images) != len(labels):
            raise UserError(f"{owner}: {len(images)} {split} images have {len(labels)} labels")
        if not len(images):
            raise UserError(f"{owner}: there is no {split} image")
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= classes:
            raise UserError(
                f"{owner}: {split} label {low if low < 0 else high} is not allowed; "
                f"allowed: 0 to {classes - 1}"
            )
    if sets.train_images.shape[1:] != sets.test_images.shape[1:]:
        raise UserError(
            f"{owner}: training images are {sets.train_images.shape[1:]} (channels, height, "
            f"width) and test images {sets.test_images.shape[1:]}; they must agree"
        )
    counts = np.bincount(sets.train_labels, minlength=classes)
    if (counts == 0).any():
        empty = sets.class_names[int(np.flatnonzero(counts == 0)[0])]
        raise UserError(f"{owner}: class {empty!r} has no training image")


def stratified(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
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


def _share(owner: str, field: str, labels: np.ndarray, count: int | None) -> np.ndarray:
    if count is None:
        return np.arange(len(labels))
    classes = len(np.unique(labels))
    chosen = stratified(labels, count, seed=0) if classes <= count <= len(labels) else None
    if chosen is None or len(np.unique(labels[chosen])) < classes:
        raise UserError(
            f"{owner}: {field} = {count} is not allowed; allowed: None, or a number up to "
            f"{len(labels)} that leaves each of the {classes} classes an image"
        )
    return chosen


def _hold_out(owner: str, sets: ImageSets) -> ImageSets:
    labels = sets.train_labels
    count = round(HELD_OUT_SHARE * len(labels))
    held = stratified(labels, count, seed=1) if count else np.arange(0)
    kept = np.setdiff1d(np.arange(len(labels)), held)
    if not len(held) or len(np.unique(labels[kept])) < len(np.unique(labels)):
        raise UserError(
            f"{owner}: validation = 'held-out' is not allowed with {len(labels)} training images: "
            "every class needs one on either side; allowed: 'none'"
        )
    return replace(
        sets,
        train_images=sets.train_images[kept],
        train_labels=labels[kept],
        test_images=sets.train_images[held],
        test_labels=labels[held],
    )


def _without_classes(sets: ImageSets, left_out: Sequence[int]) -> ImageSets:
    kept = [k for k in range(len(sets.class_names)) if k not in set(left_out)]
    new_label = np.full(len(sets.class_names), -1)
    new_label[kept] = np.arange(len(kept))
    train, test = new_label[sets.train_labels] >= 0, new_label[sets.test_labels] >= 0
    return ImageSets(
        train_images=sets.train_images[train],
        train_labels=new_label[sets.train_labels[train]],
        test_images=sets.test_images[test],
        test_labels=new_label[sets.test_labels[test]],
        class_names=tuple(sets.class_names[k] for k in kept),
    )


def _pairs(
    owner: str, sets: ImageSets, left_out: Sequence[int], *, from_train: bool
) -> VerificationPairs:
    classes = len(sets.class_names)
    wanted = set(left_out)
    if len(wanted) < len(left_out) or not 2 <= len(wanted) <= classes - 2 or max(wanted) >= classes:
        raise UserError(
            f"{owner}: left_out = {list(left_out)} is not allowed; allowed: none, or 2 to "
            f"{classes - 2} different classes from 0 to {classes - 1}"
        )
    images = sets.train_images if from_train else sets.test_images
    labels = sets.train_labels if from_train else sets.test_labels
    # Pairs within a fold are listed one by one: a bounded number of images keeps that small.
    per_class = max(PAIR_IMAGES_A_CLASS, -(-2000 // len(wanted)))
    chosen = np.sort(
        np.concatenate([np.flatnonzero(labels == value)[:per_class] for value in sorted(wanted)])
    )
    first, second, same, fold = draw_class_pairs(
        labels[chosen], folds=FOLDS, pairs_each=PAIRS_EACH, seed=0
    )
    return VerificationPairs(
        name="left-out",
        images=torch.from_numpy(np.ascontiguousarray(images[chosen])),
        first=first,
        second=second,
        same=same,
        fold=fold,
        description=f"pairs of {len(wanted)} classes, none of them seen in training",
        people=torch.from_numpy(labels[chosen]),
    )
