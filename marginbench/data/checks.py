"""What a data source has loaded, checked for shape, label range, folds and kinds of pairs."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from marginbench.data import ImageData, OneShotTask, VerificationPairs
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
    if numbers.dtype != np.int64 or numbers.ndim != 1:
        raise UserError(f"{split} labels are {numbers.dtype} {numbers.shape}; allowed: int64 (N,)")
    wrong = numbers[(numbers < 0) | (numbers >= classes)]
    if len(wrong):
        raise UserError(f"{split} label {wrong[0]} is not allowed; allowed: 0 to {classes - 1}")
    empty = np.flatnonzero(np.bincount(numbers, minlength=classes) == 0)
    if split == "training" and len(empty):
        raise UserError(f"class {class_names[empty[0]]!r} has no training image")


def check_loaded(data: ImageData) -> None:
    """Refuse what a model could not be trained on, or not be evaluated on to the last number.

    Raises:
        UserError: test images or a one-shot task of another shape than the training images,
            verification sets of one name, or as :func:`check_split` and :func:`check_pairs`.
    """
    check_split("training", data.train_images, data.train_labels, data.class_names)
    check_split("test", data.test_images, data.test_labels, data.class_names)
    _check_alike("test images", data.test_images, data)
    names = [pairs.name for pairs in data.verification]
    for pairs in data.verification:
        if not pairs.name or names.count(pairs.name) > 1:
            raise UserError(f"verification sets are called {names}; allowed: different names")
        check_pairs(pairs, data)
    if data.one_shot is not None:
        _check_one_shot(data.one_shot, data)


def check_pairs(pairs: VerificationPairs, data: ImageData) -> None:
    """Refuse a verification set that cannot be evaluated, or not of images like those trained on.

    Raises:
        UserError: images of another type or shape, fields of other types or lengths, pairs of
            images that are not there, too few folds, or tested pairs of one kind only.
    """
    owner = f"verification set {pairs.name!r}"
    _check_alike(f"{owner}: its images", pairs.images, data)
    number, count = len(pairs.first), len(pairs.images)
    for name in ("first", "second", "fold"):
        _check_vector(f"{owner}: {name}", getattr(pairs, name), number)
    _check_vector(f"{owner}: same", pairs.same, number, boolean=True)
    if pairs.people is not None:
        _check_vector(f"{owner}: people", pairs.people, count)
    if len(pairs.image_names) not in (0, count):
        raise UserError(
            f"{owner}: it names {len(pairs.image_names)} images and has {count}; allowed: none or "
            "all of them named"
        )
    indices = torch.cat([pairs.first, pairs.second])
    if len(indices) == 0 or indices.min() < 0 or indices.max() >= count:
        raise UserError(f"{owner}: its pairs must be of images 0 to {count - 1}, at least one pair")
    tested = pairs.tested_folds
    folds = set(pairs.fold.tolist())
    wrong = tested is not None and (
        not set() < set(tested) <= folds or len(set(tested)) < len(tested)
    )
    if len(folds) < 2 or wrong:
        raise UserError(
            f"{owner}: it has the folds {sorted(folds)} and tests {tested}; "
            "two folds or more are needed, one of them to choose the threshold on"
        )
    is_tested = torch.ones(number, dtype=torch.bool)
    if tested is not None:
        is_tested = torch.isin(pairs.fold, torch.tensor(tested))
    same, total = int(pairs.same[is_tested].sum()), int(is_tested.sum())
    if same in (0, total):
        raise UserError(
            f"{owner}: of its {total} tested pairs {same} are of one class; allowed: pairs of one "
            "class and pairs of two, one or more of each"
        )


def _check_one_shot(task: OneShotTask, data: ImageData) -> None:
    _check_alike("images of the one-shot task", task.images, data)
    if not task.runs:
        raise UserError("the one-shot task has no run; allowed: one or more")
    for run in task.runs:
        owner = f"run {run.name!r} of the one-shot task"
        for name, values, below in (
            ("known", run.known, len(task.images)),
            ("tested", run.tested, len(task.images)),
            ("answers", run.answers, len(run.known)),
        ):
            length = len(run.known) if name == "known" else len(run.tested)
            _check_vector(f"{owner}: {name}", values, length)
            if not length or values.min() < 0 or values.max() >= below:
                raise UserError(f"{owner}: {name} must be from 0 to {below - 1}, one or more")


def _check_alike(what: str, images: Tensor, data: ImageData) -> None:
    if images.dtype != torch.uint8 or images.shape[1:] != data.train_images.shape[1:]:
        raise UserError(
            f"{what} are {str(images.dtype).removeprefix('torch.')} {tuple(images.shape[1:])}, and "
            f"those trained on are uint8 {data.image_shape}; they must be alike"
        )


def _check_vector(what: str, values: Tensor, length: int, *, boolean: bool = False) -> None:
    wanted = torch.bool if boolean else torch.int64
    if values.dtype != wanted or values.shape != (length,):
        raise UserError(
            f"{what} is {str(values.dtype).removeprefix('torch.')} {tuple(values.shape)}; "
            f"allowed: {str(wanted).removeprefix('torch.')} ({length},)"
        )
