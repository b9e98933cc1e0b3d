"""Images and labels from an npz file in the layout of Keras and MedMNIST."""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import Path

import numpy as np

from marginbench.data.choices.image_sets import ImageSets
from marginbench.data.formats.array_archives import (
    ArrayHeader,
    array_headers,
    array_names,
    read_arrays,
)
from marginbench.data.formats.reading import reading
from marginbench.errors import UserError, each

LAYOUTS = (
    ("x_train", "y_train", "x_test", "y_test"),
    ("train_images", "train_labels", "test_images", "test_labels"),
)
SPLITS = ("training", "test")


def read_array_file(path: Path) -> ImageSets:
    """Training and test images from an npz file.

    Args:
        path: an npz with x_train, y_train, x_test, y_test (Keras), or train_images,
            train_labels, test_images, test_labels (MedMNIST): images of bytes (N, H, W) or
            (N, H, W, C) with C = 1 or 3, labels whole numbers (N,) or (N, 1); optionally
            ``classes``, the names (K,), which else are the numbers. Anything else in it is
            ignored, and nothing in it is executed: arrays of objects are refused.

    Raises:
        UserError: no such file, or it is damaged or laid out otherwise.
    """
    ((train_images, train_labels), (test_images, test_labels)), names = _load(path, LAYOUTS)
    return ImageSets(train_images, train_labels, test_images, test_labels, names)


def read_training_arrays(path: Path) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """The training part of such a file alone; it need not have another.

    Args:
        path: see :func:`read_array_file`.

    Returns:
        Images (N, C, H, W), labels (N,) and the names of the classes.

    Raises:
        UserError: see :func:`read_array_file`; or labels that are not of N images of the classes.
    """
    ((images, labels),), names = _load(path, [layout[:2] for layout in LAYOUTS])
    where = repr(str(path))
    if not len(images):
        raise UserError(f"{where} has no training image")
    if labels.min() < 0 or labels.max() >= len(names):
        raise UserError(
            f"{where} has labels from {labels.min()} to {labels.max()}; "
            f"allowed: 0 to {len(names) - 1}"
        )
    return images, labels, names


def _load(
    path: Path, layouts: Collection[tuple[str, ...]]
) -> tuple[list[tuple[np.ndarray, np.ndarray]], tuple[str, ...]]:
    """Images and labels of each split of the first layout that is there, and the classes' names.

    Types, shapes and sizes are checked before anything is read.
    """
    where = repr(str(path))
    with reading(path):
        held = array_names(path)
        layout = next((names for names in layouts if set(names) <= set(held)), None)
        if layout is None:
            allowed = " or ".join(", ".join(names) for names in layouts)
            raise UserError(f"{where} holds {', '.join(held) or 'nothing'}; allowed: {allowed}")
        wanted = [*layout, *(["classes"] if "classes" in held else [])]
        headers = array_headers(path, wanted)
        each(lambda name: _check_images(f"{where}: {name}", headers[name]), layout[::2], "arrays")
        each(lambda name: _check_labels(f"{where}: {name}", headers[name]), layout[1::2], "arrays")
        for split, images, labels in zip(SPLITS, layout[::2], layout[1::2], strict=False):
            if headers[images].shape[0] != headers[labels].shape[0]:
                raise UserError(
                    f"{where} has {headers[images].shape[0]} {split} images and "
                    f"{headers[labels].shape[0]} labels"
                )
        named = headers.get("classes")
        if named is not None and named.size < math.prod(named.shape):
            raise UserError(f"{where}: classes is {named.dtype} {named.shape}: names without text")
        arrays = read_arrays(path, wanted)
    pairs = [
        (_as_channels(arrays[images]), arrays[labels].ravel().astype(np.int64))
        for images, labels in zip(layout[::2], layout[1::2], strict=True)
    ]
    if named is not None:
        return pairs, tuple(str(name) for name in arrays["classes"].ravel())
    # A class without images is refused later: more of them than images need no names.
    classes = max(int(labels.max(initial=-1)) for _, labels in pairs) + 1
    images = sum(len(labels) for _, labels in pairs)
    if classes > images:
        raise UserError(
            f"{where} has the label {classes - 1} among {images} images; allowed: "
            f"0 to {images - 1}, as every class needs an image"
        )
    return pairs, tuple(map(str, range(classes)))


def _check_images(where: str, header: ArrayHeader) -> None:
    shape = header.shape
    is_grey = len(shape) == 3 or shape[3:] == (1,)
    if header.dtype != np.uint8 or not (is_grey or shape[3:] == (3,)):
        raise UserError(
            f"{where} is {header.dtype} {shape}; allowed: uint8 (N, H, W), (N, H, W, 1) or "
            "(N, H, W, 3)"
        )
    if 0 in shape[1:]:
        raise UserError(f"{where} is {shape}: images without pixels")


def _check_labels(where: str, header: ArrayHeader) -> None:
    is_column = len(header.shape) == 2 and header.shape[1] == 1
    if header.dtype.kind not in "iu" or not (len(header.shape) == 1 or is_column):
        raise UserError(
            f"{where} is {header.dtype} {header.shape}; allowed: whole numbers (N,) or (N, 1)"
        )


def _as_channels(images: np.ndarray) -> np.ndarray:
    """(N, H, W) or (N, H, W, C) as (N, C, H, W)."""
    if images.ndim == 3:
        return images[:, None]
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))
