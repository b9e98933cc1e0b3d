"""Parts of training and test sets: fewer images, held-out images, classes left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field

from marginbench.data import ImageData, VerificationPairs
from marginbench.data.choices.class_pairs import pairs_of_classes
from marginbench.data.choices.image_sets import (
    ImageSets,
    check_sets,
    split_by,
    stratified,
    without_classes,
)
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

SearchShare = Annotated[float, Field(ge=0, lt=1)]
"""With a split per seed: a share of all images, the same of each class, that is for choosing
hyper-parameters only. It is drawn once. "held-out" and "classes" then have these images alone,
split as the whole set is, and "none" has all others: so one search does for all seeds."""

HELD_OUT_SHARE = 0.1
HELD_OUT_CLASSES = 0.25


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
    search_share: float = 0.0,
    classes: Sequence[int] = (),
) -> ImageData:
    """What a cell trains, tests and verifies on.

    Every choice is fixed, whatever the cell's seed, unless ``split_seed`` is given.

    Args:
        sets: the whole data set.
        validation: see :data:`Validation`.
        train_count: train on so many images, the same share of each class; None for all.
        test_count: test on so many.
        left_out: classes that are not trained on; verification runs on pairs of their images (10
            folds of 300 same and 300 different pairs, as in LFW's protocol). None given,
            those of the source itself.
        pair_images: images (M, C, H, W) and labels (M,) to take these pairs from; None for the
            test set, or with "held-out" or without a test set the training set. Test images may be
            among them: given, "held-out" has no such pairs.
        validation_draw: see :data:`Draw`.
        split_seed: draws training and test set anew from both; None leaves them as they are. See
            :data:`Split`.
        search_share: see :data:`SearchShare`.
        classes: the only ones that are there; none for all. Whatever else names classes by their
            numbers means them as they are then numbered.

    Raises:
        UserError: labels out of range, a class without images, counts that leave a class without
            images, classes that cannot be left out, or a share for the search without a split per
            seed.
    """
    check_sets(sets)
    if classes:
        sets = _only(sets, classes)
    if search_share and split_seed is None:
        raise UserError(
            f"search_share = {search_share:g} is not allowed with split = 'fixed', where a search "
            "has the training images; allowed: 0, or split = 'per-seed'"
        )
    is_validated = validation != "none"
    if search_share:
        sets = _part(sets, search_share, searched=is_validated)
    if split_seed is not None:
        sets = _split_anew(sets, validation_draw if search_share and is_validated else split_seed)
    verification: tuple[VerificationPairs, ...] = ()
    if left_out and sets.left_out:
        raise UserError(
            f"left_out = {list(left_out)} is not allowed with classes left out by a share or a "
            "file; allowed: one of these"
        )
    left_out = left_out or sets.left_out
    if left_out:
        training, test = sets.splits
        source: tuple[np.ndarray, np.ndarray] | None = None
        if validation == "none":
            source = pair_images or (test if len(sets.test_images) else training)[1:]
        elif validation == "held-out" and pair_images is None and len(sets.test_images):
            source = training[1:]
        if source is not None:
            verification = (pairs_of_classes(*source, left_out, sets.class_names),)
        sets = without_classes(sets, left_out)
    if validation == "held-out" and not search_share:
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
        named=sets.named,
    )


def _only(sets: ImageSets, classes: Sequence[int]) -> ImageSets:
    number = len(sets.class_names)
    if len(set(classes)) < max(2, len(classes)) or max(classes) >= number or sets.left_out:
        raise UserError(
            f"classes = {list(classes)} is not allowed; allowed: none, or two or more different "
            f"ones from 0 to {number - 1}, and then no left_out_share or left_out_file"
        )
    return without_classes(sets, [k for k in range(number) if k not in classes])


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
    if not len(sets.test_labels):
        raise UserError(
            "split = 'per-seed' is not allowed where there are no test images; allowed: 'fixed'"
        )
    return split_by(images, labels, stratified(labels, len(sets.test_labels), [2, seed]), sets)


def _part(sets: ImageSets, share: float, *, searched: bool) -> ImageSets:
    """The images that are for the search, or the others, with as large a share of test images."""
    images = np.concatenate([sets.train_images, sets.test_images])
    labels = np.concatenate([sets.train_labels, sets.test_labels])
    for_search = stratified(labels, round(share * len(labels)), 5)
    rest = np.setdiff1d(np.arange(len(labels)), for_search)
    if any(len(np.unique(labels[part])) < len(sets.class_names) for part in (for_search, rest)):
        raise UserError(
            f"search_share = {share:g} is not allowed: it leaves a class without images on one "
            "side; allowed: 0, or a share that leaves each class an image on either side"
        )
    chosen = for_search if searched else rest
    test_count = round(len(chosen) * len(sets.test_labels) / len(labels))
    return split_by(images[chosen], labels[chosen], np.arange(test_count), sets)


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
    return split_by(sets.train_images, labels, held, sets)


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
    rest = without_classes(sets, held)
    return (pairs,), replace(
        rest, test_images=rest.test_images[:0], test_labels=rest.test_labels[:0]
    )
