"""MNIST and Fashion-MNIST, from their idx files."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Annotated

import numpy as np

from marginbench.data import ImageData, data_source
from marginbench.data.choices.image_sets import ImageSets
from marginbench.data.choices.splits import (
    Draw,
    ImageValidation,
    SearchShare,
    Split,
    choose_images,
)
from marginbench.data.files.content import public_content
from marginbench.data.files.downloads import DOWNLOADS, fetch
from marginbench.data.files.paths import data_root
from marginbench.data.formats.archives import MOST_UNPACKED, check_memory
from marginbench.data.formats.reading import reading
from marginbench.errors import UserError
from marginbench.plugins.parameters import AddedLater, PositiveInteger

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
FASHION = (
    *("T-shirt/top", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)


MNIST = ("MNIST", tuple(str(digit) for digit in range(10)))
FASHION_MNIST = ("FashionMNIST", FASHION)


@data_source("mnist", content=lambda: _content(*MNIST))
def mnist(
    split_seed: int | None = None,
    *,
    validation: ImageValidation = "none",
    train_count: PositiveInteger | None = None,
    test_count: PositiveInteger | None = None,
    validation_draw: Annotated[Draw, AddedLater(0)] = 0,
    split: Annotated[Split, AddedLater("fixed")] = "fixed",
    search_share: Annotated[SearchShare, AddedLater(0.0)] = 0.0,
) -> ImageData:
    """MNIST: 60,000 + 10,000 handwritten digits, 28×28 (LeCun et al., 1998).

    From ``DATA/MNIST/raw``: the four idx files, gzipped or not; downloaded if it is not there.
    The parameters are those of :func:`marginbench.data.choices.splits.choose_images`.

    Raises:
        UserError: files that are missing or damaged, or counts that are not allowed.
    """
    return choose_images(
        _read_sets(*MNIST),
        validation,
        train_count,
        test_count,
        validation_draw=validation_draw,
        split_seed=split_seed,
        search_share=search_share,
    )


@data_source("fashion-mnist", content=lambda: _content(*FASHION_MNIST))
def fashion_mnist(
    split_seed: int | None = None,
    *,
    validation: ImageValidation = "none",
    train_count: PositiveInteger | None = None,
    test_count: PositiveInteger | None = None,
    validation_draw: Annotated[Draw, AddedLater(0)] = 0,
    split: Annotated[Split, AddedLater("fixed")] = "fixed",
    search_share: Annotated[SearchShare, AddedLater(0.0)] = 0.0,
) -> ImageData:
    """Fashion-MNIST: 60,000 + 10,000 pieces of clothing, 28×28 (Xiao et al., 2017).

    From ``DATA/FashionMNIST/raw``; everything else as for ``mnist``.

    Raises:
        UserError: files that are missing or damaged, or counts that are not allowed.
    """
    return choose_images(
        _read_sets(*FASHION_MNIST),
        validation,
        train_count,
        test_count,
        validation_draw=validation_draw,
        split_seed=split_seed,
        search_share=search_share,
    )


def _content(dataset: str, class_names: tuple[str, ...]) -> str:
    folder = data_root() / DOWNLOADS[dataset].folder
    files = [folder / name if (folder / name).exists() else folder / f"{name}.gz" for name in FILES]
    return public_content(dataset, files, lambda: _read_sets(dataset, class_names))


def _read_sets(dataset: str, class_names: tuple[str, ...]) -> ImageSets:
    folder = fetch(dataset, FILES)
    arrays = [read_idx(folder / name, 3 if "idx3" in name else 1) for name in FILES]
    train_images, train_labels, test_images, test_labels = arrays
    return ImageSets(
        train_images=train_images[:, None],
        train_labels=train_labels.astype(np.int64),
        test_images=test_images[:, None],
        test_labels=test_labels.astype(np.int64),
        class_names=class_names,
    )


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """An array of bytes from an idx file, gzipped (``.gz`` added to its name) or not.

    Args:
        path: without the ``.gz``.
        dimensions: that the array must have.

    Raises:
        UserError: there is no such file, or it is damaged.
    """
    is_zipped = not path.exists()
    stored = path.with_name(path.name + ".gz") if is_zipped else path
    where = repr(str(path))
    if not stored.exists():
        raise UserError(f"{where} does not exist, nor does it with '.gz'")
    try:
        with reading(path), gzip.open(stored) if is_zipped else stored.open("rb") as file:
            size = stored.stat().st_size * (MOST_UNPACKED if is_zipped else 1)
            # idx: two zero bytes, the type (8: unsigned byte), the number of dimensions, then
            # each dimension as a big-endian 32-bit integer, then the data.
            start = file.read(4)
            if len(start) < 4 or start[:3] != b"\0\0\x08":
                raise UserError(f"{where} is damaged: it is no idx file of bytes")
            if start[3] != dimensions:
                raise UserError(f"{where} has {start[3]} dimensions; allowed: {dimensions}")
            lengths = file.read(4 * dimensions)
            if len(lengths) < 4 * dimensions:
                raise UserError(f"{where} is damaged: it is no idx file of bytes")
            shape = struct.unpack(f">{dimensions}I", lengths)
            expected = math.prod(shape)
            if expected > size:
                raise UserError(
                    f"{where} is damaged: its header claims {expected:,} bytes of data, more "
                    "than the file can hold"
                )
            check_memory(expected)
            content = file.read(expected)
            rest = file.read(1)
    except (EOFError, zlib.error) as error:
        raise UserError(f"{where} cannot be read: {error}") from error
    if rest or len(content) < expected:
        found = f"more than {expected:,}" if rest else f"{len(content):,}"
        raise UserError(
            f"{where} is damaged: {found} bytes of data, and its header claims {expected:,}"
        )
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)
