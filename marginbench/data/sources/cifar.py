"""CIFAR-10 and CIFAR-100, from their python files or an npz."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from marginbench.data import data_source
from marginbench.data.choices.image_choices import with_image_choices
from marginbench.data.choices.image_sets import ImageSets
from marginbench.data.files.content import public_content
from marginbench.data.files.downloads import DOWNLOADS, fetch
from marginbench.data.files.paths import data_root
from marginbench.data.formats.array_files import read_array_file
from marginbench.data.formats.pickled_arrays import PickledArray, read_pickle_file
from marginbench.errors import UserError

LONGEST_NAME = 200


@dataclass(frozen=True)
class _Cifar:
    """One of the two sets.

    Attributes:
        dataset: its name in :data:`marginbench.data.files.downloads.DOWNLOADS`.
        train, test: files of images.
        names: the file of the classes' names.
        prefix: of the entries "labels" and "label_names" in these files.
        classes: how many.
    """

    dataset: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    names: str
    prefix: str
    classes: int

    @property
    def files(self) -> tuple[str, ...]:
        """The published ones."""
        return (*self.train, *self.test, self.names)

    @property
    def folder(self) -> Path:
        """Where they are."""
        return data_root() / DOWNLOADS[self.dataset].folder

    @property
    def npz(self) -> Path:
        """The file that is read where that folder is not there."""
        return data_root() / f"{self.dataset.lower()}.npz"

    @property
    def is_npz(self) -> bool:
        """Whether the npz file is read."""
        return not self.folder.is_dir() and self.npz.is_file()


_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
CIFAR10 = _Cifar("CIFAR10", _BATCHES, ("test_batch",), "batches.meta", "", 10)
CIFAR100 = _Cifar("CIFAR100", ("train",), ("test",), "meta", "fine_", 100)


@data_source("cifar10", content=lambda: _content(CIFAR10))
@with_image_choices
def cifar10() -> ImageSets:
    """CIFAR-10: 50,000 + 10,000 colour images of ten classes, 32×32 (Krizhevsky, 2009).

    From ``DATA/cifar-10-batches-py``, or else ``DATA/cifar10.npz`` (see ``cifar100``); downloaded
    if neither is there. The parameters are those of
    :func:`marginbench.data.choices.splits.choose_images`.

    Raises:
        UserError: files that are missing or damaged, or parameters that are not allowed.
    """
    return _sets(CIFAR10)


@data_source("cifar100", content=lambda: _content(CIFAR100))
@with_image_choices
def cifar100() -> ImageSets:
    """CIFAR-100: 50,000 + 10,000 colour images of a hundred classes, 32×32 (Krizhevsky, 2009).

    From ``DATA/cifar-100-python``, or else ``DATA/cifar100.npz`` with x_train, y_train, x_test,
    y_test (uint8 (N, 32, 32, 3) and fine labels) and optionally classes; downloaded if neither
    is there. The images come in an order of their own, the same from either file, so that one
    seed means one run. The parameters are those of
    :func:`marginbench.data.choices.splits.choose_images`.

    Raises:
        UserError: files that are missing or damaged, or parameters that are not allowed.
    """
    return _sets(CIFAR100)


def _content(published: _Cifar) -> str:
    files = [published.folder / name for name in published.files]
    if published.is_npz:
        files = [published.npz]
    return public_content(published.dataset, files, lambda: _sets(published))


def _sets(published: _Cifar) -> ImageSets:
    """The whole set, sorted by the images' hashes: an order that no file decides, classes mixed."""
    sets = _npz_sets(published) if published.is_npz else _pickled_sets(published)
    train, test = (_sorted_by_hash(images, labels) for _, images, labels in sets.splits)
    return ImageSets(*train, *test, sets.class_names)


def _sorted_by_hash(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    keys = [
        (hashlib.sha256(image.tobytes()).digest(), label)
        for image, label in zip(images, labels, strict=True)
    ]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return images[order], labels[order]


def _npz_sets(published: _Cifar) -> ImageSets:
    sets = read_array_file(published.npz)
    shape, classes = sets.train_images.shape[1:], len(sets.class_names)
    if shape != (3, 32, 32) or classes != published.classes:
        raise UserError(
            f"{str(published.npz)!r} has images of {shape} (channels, height, width) in {classes} "
            f"classes; allowed: (3, 32, 32) in {published.classes}"
        )
    return sets


def _pickled_sets(published: _Cifar) -> ImageSets:
    folder = fetch(published.dataset, published.files, instead=published.npz.name)
    labels, field = f"{published.prefix}labels", f"{published.prefix}label_names"
    train = _read_batches(folder, published.train, labels)
    test = _read_batches(folder, published.test, labels)
    path = folder / published.names
    names = _class_names(repr(str(path)), field, _read_fields(path).get(field), published.classes)
    return ImageSets(*train, *test, names)


def _read_batches(
    folder: Path, files: tuple[str, ...], labels_field: str
) -> tuple[np.ndarray, np.ndarray]:
    images, labels = [], []
    for name in files:
        where = f"{str(folder / name)!r} is damaged"
        batch = _read_fields(folder / name)
        data, numbers = batch.get("data"), batch.get(labels_field)
        if type(data) is not PickledArray or data.code != "u1" or data.shape[1:] != (3072,):
            raise UserError(f"{where}: 'data' must be bytes (N, 3072)")
        if type(numbers) is not list or not all(type(n) is int for n in numbers):
            raise UserError(f"{where}: {labels_field!r} must be a list of integers")
        if len(numbers) != data.shape[0]:
            raise UserError(f"{where}: {data.shape[0]} images and {len(numbers)} labels")
        images.append(data.values().reshape(-1, 3, 32, 32))
        labels.append(np.array(numbers, dtype=np.int64))
    return np.concatenate(images), np.concatenate(labels)


def _read_fields(path: Path) -> dict[str, Any]:
    """The entries of a dictionary, by their names."""
    value = read_pickle_file(path)
    if type(value) is not dict:
        raise UserError(f"{str(path)!r} is damaged: it holds no dictionary")
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
    return tuple(name for name in names if name is not None)


def _name(value: Any) -> str | None:
    """A class's name, or None for what is none."""
    try:
        # A text may hold halves of characters, which no file can be written with.
        content = value.encode() if type(value) is str else value
        short = type(content) is bytes and len(content) <= LONGEST_NAME
        return content.decode() if short else None
    except UnicodeError:
        return None
