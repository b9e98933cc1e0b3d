"""CIFAR-10 and CIFAR-100, from their python files or an npz."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from marginbench.data import ImageData, data_source
from marginbench.data.choices.splits import ImageSets, Validation, choose_images
from marginbench.data.files.content import public_content
from marginbench.data.files.downloads import fetch
from marginbench.data.files.places import data_root
from marginbench.data.formats.array_files import read_array_file
from marginbench.data.formats.pickled_arrays import PickledArray, read_pickle_file
from marginbench.errors import UserError
from marginbench.plugins.parameters import PositiveInteger

ClassNumber = Annotated[int, Field(ge=0)]

LONGEST_NAME = 200

CIFAR10_TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))


CIFAR10 = (
    *("data source 'cifar10'", "CIFAR10", "cifar10.npz", "cifar-10-batches-py"),
    *(CIFAR10_TRAIN, ("test_batch",), "batches.meta", "labels", "label_names", 10),
)
CIFAR100 = (
    *("data source 'cifar100'", "CIFAR100", "cifar100.npz", "cifar-100-python"),
    *(("train",), ("test",), "meta", "fine_labels", "fine_label_names", 100),
)


@data_source("cifar10", content=lambda: _content(*CIFAR10))
def cifar10(
    *,
    validation: Validation = "none",
    train_count: PositiveInteger | None = None,
    test_count: PositiveInteger | None = None,
    left_out: tuple[ClassNumber, ...] = (),
) -> ImageData:
    """CIFAR-10: 50,000 + 10,000 colour images of ten classes, 32×32 (Krizhevsky, 2009).

    From ``DATA/cifar-10-batches-py``, or else ``DATA/cifar10.npz`` (see ``cifar100``); downloaded
    if neither is there. The parameters are those of
    :func:`marginbench.data.choices.splits.choose_images`.

    Raises:
        UserError: files that are missing or damaged, or parameters that are not allowed.
    """
    sets = _sets(*CIFAR10)
    return choose_images(
        CIFAR10[0],
        sets,
        validation=validation,
        train_count=train_count,
        test_count=test_count,
        left_out=left_out,
    )


@data_source("cifar100", content=lambda: _content(*CIFAR100))
def cifar100(
    *,
    validation: Validation = "none",
    train_count: PositiveInteger | None = None,
    test_count: PositiveInteger | None = None,
    left_out: tuple[ClassNumber, ...] = (),
) -> ImageData:
    """CIFAR-100: 50,000 + 10,000 colour images of a hundred classes, 32×32 (Krizhevsky, 2009).

    From ``DATA/cifar-100-python``, or else ``DATA/cifar100.npz`` with x_train, y_train, x_test,
    y_test (uint8 (N, 32, 32, 3) and fine labels) and, if wished, classes; downloaded if neither
    is there. The images come in an order of their own, the same from either file, so that one
    seed means one run. The parameters are those of
    :func:`marginbench.data.choices.splits.choose_images`.

    Raises:
        UserError: files that are missing or damaged, or parameters that are not allowed.
    """
    sets = _sets(*CIFAR100)
    return choose_images(
        CIFAR100[0],
        sets,
        validation=validation,
        train_count=train_count,
        test_count=test_count,
        left_out=left_out,
    )


def _content(*published: Any) -> str:
    """Of the files that :func:`_sets` reads, whose arguments these are."""
    owner, _, npz, folder_name, train_files, test_files, names_file, *_ = published
    root = data_root()
    files = [root / folder_name / name for name in (*train_files, *test_files, names_file)]
    if not (root / folder_name).is_dir():
        files = [root / npz]
    return public_content(owner, files, lambda: _sets(*published))


def _sets(
    owner: str,
    dataset: str,
    npz: str,
    folder_name: str,
    train_files: tuple[str, ...],
    test_files: tuple[str, ...],
    names_file: str,
    labels_field: str,
    names_field: str,
    classes: int,
) -> ImageSets:
    root = data_root()
    if not (root / folder_name).is_dir() and (root / npz).is_file():
        sets = read_array_file(owner, root / npz)
        if sets.train_images.shape[1:] != (3, 32, 32) or len(sets.class_names) != classes:
            raise UserError(
                f"{owner}: {str(root / npz)!r} has images of {sets.train_images.shape[1:]} "
                f"(channels, height, width) in {len(sets.class_names)} classes; allowed: "
                f"(3, 32, 32) in {classes}"
            )
    else:
        files = (*train_files, *test_files, names_file)
        folder = fetch(owner, dataset, root, files, instead=npz)
        train = _read_batches(owner, folder, train_files, labels_field)
        test = _read_batches(owner, folder, test_files, labels_field)
        names = _class_names(
            f"{owner}: {str(folder / names_file)!r}",
            names_field,
            _read_fields(owner, folder / names_file).get(names_field),
            classes,
        )
        sets = ImageSets(*train, *test, names)
    return _in_own_order(sets)


def _in_own_order(sets: ImageSets) -> ImageSets:
    """Sorted by the images' hashes: an order that no file decides and that mixes the classes."""
    parts = []
    for images, labels in (
        (sets.train_images, sets.train_labels),
        (sets.test_images, sets.test_labels),
    ):
        keys = [
            (hashlib.sha256(image.tobytes()).digest(), label)
            for image, label in zip(images, labels, strict=True)
        ]
        order = sorted(range(len(keys)), key=keys.__getitem__)
        parts += [images[order], labels[order]]
    return ImageSets(*parts, sets.class_names)


def _read_batches(
    owner: str, folder: Path, files: tuple[str, ...], labels_field: str
) -> tuple[np.ndarray, np.ndarray]:
    images, labels = [], []
    for name in files:
        batch = _read_fields(owner, folder / name)
        data, numbers = batch.get("data"), batch.get(labels_field)
        if type(data) is not PickledArray or data.shape[1:] != (3072,):
            raise UserError(
                f"{owner}: {str(folder / name)!r} is damaged: 'data' must be bytes (N, 3072)"
            )
        if type(numbers) is not list or not all(type(n) is int for n in numbers):
            raise UserError(
                f"{owner}: {str(folder / name)!r} is damaged: {labels_field!r} must be a list "
                "of integers"
            )
        if len(numbers) != data.shape[0]:
            raise UserError(
                f"{owner}: {str(folder / name)!r} is damaged: {data.shape[0]} images and "
                f"{len(numbers)} labels"
            )
        images.append(data.values().reshape(-1, 3, 32, 32))
        labels.append(np.array(numbers, dtype=np.int64))
    return np.concatenate(images), np.concatenate(labels)


def _read_fields(owner: str, path: Path) -> dict[str, Any]:
    """The entries of a dictionary, by their names."""
    value = read_pickle_file(owner, path)
    if type(value) is not dict:
        raise UserError(f"{owner}: {str(path)!r} is damaged: it holds no dictionary")
    # The published files were written by Python 2, whose texts are bytes.
    return {
        key.decode("latin1") if isinstance(key, bytes) else str(key): item
        for key, item in value.items()
    }


def _class_names(where: str, field: str, values: Any, classes: int) -> tuple[str, ...]:
    if type(values) is not list or len(values) != classes:
        raise UserError(f"{where} has no list of {classes} {field}")
    names = [_name(value) for value in values]
    if None in names:
        raise UserError(
            f"{where} is damaged: entry {names.index(None)} of {field!r} is not allowed; allowed: "
            f"UTF-8 text of up to {LONGEST_NAME} bytes"
        )
    return tuple(names)


def _name(value: Any) -> str | None:
    """A class's name, or None for what is none."""
    try:
        # A text may hold halves of characters, which no file can be written with.
        content = value.encode() if type(value) is str else value
        short = type(content) is bytes and len(content) <= LONGEST_NAME
        return content.decode() if short else None
    except UnicodeError:
        return None
