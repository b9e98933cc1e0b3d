"""Images and labels from an npz file in the layout of Keras and MedMNIST."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path

import numpy as np

from marginbench.data.splits import ImageSets
from marginbench.errors import UserError

LAYOUTS = (
    ("x_train", "y_train", "x_test", "y_test"),
    ("train_images", "train_labels", "test_images", "test_labels"),
)


def read_array_file(owner: str, path: Path) -> ImageSets:
    """Training and test images from an npz file.

    Args:
        owner: for messages.
        path: an npz with x_train, y_train, x_test, y_test (Keras), or train_images,
            train_labels, test_images, test_labels (MedMNIST): images of bytes (N, H, W) or
            (N, H, W, C) with C = 1 or 3, labels whole numbers (N,) or (N, 1); if wished also
            ``classes``, the names (K,), which else are the numbers. Anything else in it is
            ignored, and nothing in it is executed: arrays of objects are refused.

    Raises:
        UserError: no such file, or it is damaged or laid out otherwise.
    """
    arrays, names = _load(owner, path, LAYOUTS)
    train_images, train_labels, test_images, test_labels = arrays
    if names is None:
        classes = int(max(train_labels.max(initial=0), test_labels.max(initial=0))) + 1
        names = tuple(str(number) for number in range(classes))
    return ImageSets(train_images, train_labels, test_images, test_labels, names)


def read_training_arrays(owner: str, path: Path) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """The training part of such a file alone; it need not have another.

    Args:
        owner, path: see :func:`read_array_file`.

    Returns:
        Images (N, C, H, W), labels (N,) and the names of the classes.

    Raises:
        UserError: see :func:`read_array_file`; or labels that are not of N images of the classes.
    """
    (images, labels), names = _load(owner, path, [layout[:2] for layout in LAYOUTS])
    where = f"{owner}: {str(path)!r}"
    if len(images) != len(labels) or not len(images):
        raise UserError(f"{where} has {len(images)} training images and {len(labels)} labels")
    if names is None:
        names = tuple(str(number) for number in range(int(labels.max()) + 1))
    if labels.min() < 0 or labels.max() >= len(names):
        raise UserError(
            f"{where} has labels from {labels.min()} to {labels.max()}; "
            f"allowed: 0 to {len(names) - 1}"
        )
    return images, labels, names


def _load(
    owner: str, path: Path, layouts: Collection[tuple[str, ...]]
) -> tuple[list[np.ndarray], tuple[str, ...] | None]:
    """Images and labels by turns, of the first layout that is there, and the classes' names."""
    allowed = " or ".join(", ".join(layout) for layout in layouts)
    try:
        with np.load(path, allow_pickle=False) as file:
            layout = next((names for names in layouts if set(names) <= set(file.files)), None)
            if layout is None:
                raise UserError(
                    f"{owner}: {str(path)!r} holds {', '.join(file.files) or 'nothing'}; "
                    f"allowed: {allowed}"
                )
            arrays = {name: file[name] for name in layout}
            names = file["classes"] if "classes" in file.files else None
    except FileNotFoundError:
        raise UserError(f"{owner}: {str(path)!r} does not exist") from None
    except ValueError as error:
        refused = "pickle" in str(error).lower() or "object" in str(error).lower()
        reason = "arrays of objects are not allowed" if refused else str(error)
        raise UserError(f"{owner}: {str(path)!r} cannot be read: {reason}") from error
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, KeyError, AttributeError) as error:
        raise UserError(f"{owner}: {str(path)!r} is damaged or no npz file: {error}") from error
    where = f"{owner}: {str(path)!r}"
    checked = [
        _images(where, name, arrays[name])
        if position % 2 == 0
        else _labels(where, name, arrays[name])
        for position, name in enumerate(layout)
    ]
    return checked, None if names is None else tuple(str(name) for name in names.ravel())


def _images(where: str, name: str, array: np.ndarray) -> np.ndarray:
    grey = array.ndim == 3
    if array.dtype != np.uint8 or not (grey or (array.ndim == 4 and array.shape[3] in (1, 3))):
        raise UserError(
            f"{where}: {name} is {array.dtype} {array.shape}; allowed: uint8 (N, H, W), "
            "(N, H, W, 1) or (N, H, W, 3)"
        )
    if 0 in array.shape[1:]:
        raise UserError(f"{where}: {name} is {array.shape}: images without pixels")
    return array[:, None] if grey else np.ascontiguousarray(array.transpose(0, 3, 1, 2))


def _labels(where: str, name: str, array: np.ndarray) -> np.ndarray:
    is_column = array.ndim == 2 and array.shape[1] == 1
    if array.dtype.kind not in "iu" or not (array.ndim == 1 or is_column):
        raise UserError(
            f"{where}: {name} is {array.dtype} {array.shape}; allowed: whole numbers (N,) or (N, 1)"
        )
    return array.ravel().astype(np.int64)
