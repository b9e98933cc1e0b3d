"""Parts of training and test sets: fewer images, held-out images, classes left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field

from marginbench.data import ImageData, VerificationPairs
from marginbench.data.checks import check_split
from marginbench.data.choices.class_pairs import pairs_of_classes
from marginbench.errors import UserError

Validation = Literal["none", "held-out", "classes"]
"""What a cell is tested on. "none": the test set. "held-out": the test set is not used; a
tenth of the training set, the same share of each class, is left out of training and stands in for
it (of CIFAR's 50,000 images 45,000 train and 5,000 test, as in the paper). "classes": no test image
is used either; a quarter of the classes trained on, two or more, are left out of training, and
verification runs on pairs of their training images."""

ImageValidation = Literal["none", "held-out"]
"""The same of a source that leaves no classes out."""

Draw = Annotated[int, Field(ge=0, lt=2**31)]
"""Which of the possible validation sets is held out."""

Split = Literal["fixed", "per-seed"]
"""Which images are for testing. "fixed": those of the data set's test set. "per-seed": as many,
the same share of each class, drawn anew from all images by the cell's seed, the same for every head
(Bouthillier et al., MLSys 2021)."""

HELD_OUT_SHARE = 0.1
HELD_OUT_CLASSES = 0.25


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

    @property
    def splits(
        self,
    ) -> tuple[tuple[Literal["training", "test"], np.ndarray, np.ndarray], ...]:
        """Name, images and labels of both."""
        return (
            ("training", self.train_images, self.train_labels),
            ("test", self.test_images, self.test_labels),
        )


def choose_images(
    sets: ImageSets,
    validation: Validation = "none",
    train_count: int | None = None,
    test_count: int | None = None,
    left_out: Sequence[int] = (),
    *,
    pair_images: tuple[np.ndarray, np.ndarray] | None = None,
    validation_draw: int = 0,
    split_seed: int | None = None,
) -> ImageData:
    """What a cell trains, tests and verifies on.

    Every choice is fixed, whatever the cell's seed, unless ``split_seed`` is given.

    Args:
        sets: the whole data set.
        validation: see :data:`Validation`.
        train_count: train on so many images, the same share of each class; None for all.
        test_count: test on so many.
        left_out: classes that are not trained on; verification runs on pairs of their images (10
            folds of 300 same and 300 different pairs, as in LFW's protocol).
        pair_images: images (M, C, H, W) and labels (M,) to take these pairs from; None for the
            test set, or with "held-out" the training set. Test images may be among them: given,
            "held-out" has no such pairs.
        validation_draw: see :data:`Draw`.
        split_seed: draws training and test set anew from both; None leaves them as they are. See
            :data:`Split`.

    Raises:
        UserError: labels out of range, a class without images, counts that leave a class without
            images, or classes that cannot be left out.
    """
    _check_sets(sets)
    if split_seed is not None:
        sets = _split_anew(sets, split_seed)
    verification: tuple[VerificationPairs, ...] = ()
    if left_out:
        if validation == "none" or (validation == "held-out" and pair_images is None):
            training, test = sets.splits
            images, labels = pair_images or (training if validation == "held-out" else test)[1:]
            verification = (pairs_of_classes(images, labels, left_out, sets.class_names),)
        sets = _without_classes(sets, left_out)
    if validation == "held-out":
        sets = _hold_out(sets, validation_draw)
    elif validation == "classes":
        verification, sets = _hold_out_classes(sets, validation_draw)
    train = _share("train_count", sets.train_labels, train_count)
    tested = test_count if len(sets.test_labels) else None
    test = _share("test_count", sets.test_labels, tested)
    return ImageData(
        train_images=torch.from_numpy(np.ascontiguousarray(sets.train_images[train])),
        train_labels=torch.from_numpy(sets.train_labels[train]),
        test_images=torch.from_numpy(np.ascontiguousarray(sets.test_images[test])),
        test_labels=torch.from_numpy(sets.test_labels[test]),
        class_names=sets.class_names,
        verification=verification,
    )


def _check_sets(sets: ImageSets) -> None:
    for split, images, labels in sets.splits:
        if not len(images):
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


def _share(field: str, labels: np.ndarray, count: int | None) -> np.ndarray:
    if count is None:
        return np.arange(len(labels))
    classes = len(np.unique(labels))
    chosen = stratified(labels, count, seed=0) if classes <= count <= len(labels) else None
    if chosen is None or len(np.unique(labels[chosen])) < classes:
        raise UserError(
            f"{field} = {count} is not allowed; allowed: None, or a number up to "
            f"{len(labels)} that leaves each of the {classes} classes an image"
        )
    return chosen


def _split_anew(sets: ImageSets, seed: int) -> ImageSets:
    images = np.concatenate([sets.train_images, sets.test_images])
    labels = np.concatenate([sets.train_labels, sets.test_labels])
    test = stratified(labels, len(sets.test_labels), seed=[2, seed])
    train = np.setdiff1d(np.arange(len(labels)), test)
    return ImageSets(images[train], labels[train], images[test], labels[test], sets.class_names)


def _hold_out(sets: ImageSets, draw: int) -> ImageSets:
    labels = sets.train_labels
    count = round(HELD_OUT_SHARE * len(labels))
    seed = [1, draw] if draw else 1
    held = stratified(labels, count, seed=seed) if count else np.arange(0)
    kept = np.setdiff1d(np.arange(len(labels)), held)
    if not len(held) or len(np.unique(labels[kept])) < len(np.unique(labels)):
        raise UserError(
            f"validation = 'held-out' is not allowed with {len(labels)} training images: "
            "every class needs one on either side; allowed: 'none'"
        )
    return replace(
        sets,
        train_images=sets.train_images[kept],
        train_labels=labels[kept],
        test_images=sets.train_images[held],
        test_labels=labels[held],
    )


def _hold_out_classes(
    sets: ImageSets, draw: int
) -> tuple[tuple[VerificationPairs, ...], ImageSets]:
    """Pairs of some of the classes, and the sets without these classes and without test images."""
    classes = len(sets.class_names)
    if classes < 4:
        raise UserError(
            f"validation = 'classes' is not allowed with {classes} classes to train on: two are "
            "needed on either side; allowed: 'none' or 'held-out'"
        )
    count = max(2, round(HELD_OUT_CLASSES * classes))
    order = np.random.default_rng([4, draw]).permutation(classes)
    held = sorted(int(value) for value in order[:count])
    pairs = pairs_of_classes(
        sets.train_images, sets.train_labels, held, sets.class_names, fewer=True
    )
    rest = _without_classes(sets, held)
    return (pairs,), replace(
        rest, test_images=rest.test_images[:0], test_labels=rest.test_labels[:0]
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
