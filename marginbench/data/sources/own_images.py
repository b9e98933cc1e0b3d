"""A user's own images: a folder of image files, or an npz file.

Both are named relative to the data folder (``--data`` or MARGINBENCH_DATA), and a hash of their
content goes into the cell: images that move keep their runs, images that change do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from marginbench.data import data_source
from marginbench.data.choices.class_lists import last_classes, listed_classes
from marginbench.data.choices.image_choices import with_image_choices
from marginbench.data.choices.image_sets import ImageSets, stratified
from marginbench.data.files.array_cache import decoded_images
from marginbench.data.files.content import (
    Part,
    check_content,
    check_contents,
    fill_in_content,
)
from marginbench.data.files.image_folders import image_files, unread_files
from marginbench.data.files.paths import data_path
from marginbench.data.formats.array_files import read_array_file
from marginbench.data.formats.images import Colour, Fit, Preprocessing, decode_image, preprocess
from marginbench.errors import UserError, each
from marginbench.plugins.parameters import AddedLater, PositiveInteger

Share = Annotated[float, Field(gt=0, lt=1)]


def _parts(values: Mapping[str, Any]) -> list[Part]:
    listed = values.get("left_out_file")
    return [
        ("", data_path(values["name"])),
        *([("classes left out", data_path(listed))] if listed else []),
    ]


def _unread(values: Mapping[str, Any]) -> str:
    path = data_path(values["name"])
    if _is_split(path):
        return unread_files(path, lambda parts: len(parts) > 2 and parts[0] in ("train", "test"))
    return unread_files(path, lambda parts: len(parts) > 1)


@data_source("folder", complete=fill_in_content(_parts), unread=_unread)
@with_image_choices
def folder(
    *,
    name: str,
    size: PositiveInteger | None = None,
    colour: Colour = "rgb",
    test_share: Share | None = None,
    left_out_share: Annotated[Share | None, AddedLater(None)] = None,
    left_out_file: Annotated[str | None, AddedLater(None)] = None,
    fit: Annotated[Fit, AddedLater("squash")] = "squash",
    content: str = "",
) -> ImageSets:
    """Image files, a folder a class: NAME/train/CLASS/* and NAME/test/CLASS/*, or NAME/CLASS/*.

    Decoded once, then kept in the cache folder. Classes are numbered in the order of their names;
    symbolic links are followed.

    Args: those of :func:`marginbench.data.choices.splits.choose_images`, and
        name: of the folder, relative to the data folder.
        size: every image is resized to size×size; None for images of one size already.
        colour: "rgb" or "grey".
        test_share: of NAME/CLASS/*, the share of each class's images that is for testing; None
            where there are train and test, or where some classes are left out: all images of
            the others are then trained on, and nothing but verification and retrieval tested.
        left_out_share: so many of the classes are not trained on: the last ones in the order of
            their names, as the second half of CUB-200-2011's (Song et al., CVPR 2016).
        left_out_file: instead, a text file with the name of one such class a line, relative to the
            data folder.
        fit: with a size, see :data:`marginbench.data.formats.images.Fit`.
        content: hash of the images, and of the file if there is one; filled in, and with it given
            the cell is tied to it.

    Raises:
        UserError: files that are missing, damaged or changed, classes without images, or
            parameters that are not allowed.
    """
    path = data_path(name)
    _check_fit(fit, size)
    if left_out_share is not None and left_out_file is not None:
        raise UserError(
            f"left_out_file = {left_out_file!r} is not allowed with left_out_share = "
            f"{left_out_share:g}; allowed: one of them"
        )
    parts = _parts({"name": name, "left_out_file": left_out_file})
    own = check_contents(parts, content)[""]
    is_open = left_out_share is not None or left_out_file is not None
    sets = _read_folder(
        path, own, Preprocessing(size, colour, fit=fit), test_share, is_open=is_open
    )
    if left_out_file is not None:
        return replace(sets, left_out=listed_classes(data_path(left_out_file), sets.class_names))
    if left_out_share is not None:
        return replace(sets, left_out=last_classes(left_out_share, sets.class_names))
    return sets


@data_source("npz", complete=fill_in_content(_parts))
@with_image_choices
def npz(
    *,
    name: str,
    size: PositiveInteger | None = None,
    fit: Annotated[Fit, AddedLater("squash")] = "squash",
    content: str = "",
) -> ImageSets:
    """An npz file in the layout of Keras or MedMNIST, grey or RGB.

    See :func:`marginbench.data.formats.array_files.read_array_file` for the layout.

    Args: those of :func:`marginbench.data.choices.splits.choose_images`, and
        name: of the file, relative to the data folder.
        size: every image is resized to size×size; None for the size that they have.
        fit: with a size, see :data:`marginbench.data.formats.images.Fit`.
        content: as for ``folder``.

    Raises:
        UserError: a file that is missing, damaged or changed, or parameters that are not allowed.
    """
    path = data_path(name)
    check_content(path, content)
    sets = read_array_file(path)
    # It may have changed since it was hashed.
    check_content(path, content)
    _check_fit(fit, size)
    return sets if size is None else _resized_sets(sets, content, size, fit)


def _check_fit(fit: Fit, size: int | None) -> None:
    if size is None and fit != "squash":
        raise UserError(f"fit = {fit!r} is not allowed without a size; allowed: size = N")


def _resized_sets(sets: ImageSets, content: str, size: int, fit: Fit) -> ImageSets:
    def resized(split: str, images: np.ndarray) -> np.ndarray:
        channels = images.shape[1]
        preprocessing = Preprocessing(size, "grey" if channels == 1 else "rgb", fit=fit)
        return decoded_images(
            {"source": "npz", "content": content, "size": size, "split": split, "fit": fit},
            list(images),
            (channels, size, size),
            lambda image: preprocess(split, image, preprocessing),
        )

    return replace(
        sets,
        train_images=resized("train", sets.train_images),
        test_images=resized("test", sets.test_images),
    )


def _read_folder(
    path: Path,
    content: str,
    preprocessing: Preprocessing,
    test_share: float | None,
    *,
    is_open: bool = False,
) -> ImageSets:
    is_split = _is_split(path)
    if is_split and test_share is not None:
        raise UserError(
            f"test_share = {test_share:g} is not allowed, as {str(path)!r} has 'train' "
            "and 'test'; allowed: None"
        )
    if not is_split and test_share is None and not is_open:
        raise UserError(
            f"{str(path)!r} has no 'train' and 'test'; allowed: both of them, with a "
            "folder a class in each, or a folder a class and test_share from 0 to 1 or "
            "left_out_share from 0 to 1"
        )
    found = image_files(path)
    train_path = path / "train" if is_split else path
    names = _classes(train_path)
    files, labels = _listed(train_path, names, found)
    if is_split:
        test_files, test_labels = _listed(path / "test", names, found, required=False)
        # Slices copy nothing of what is mapped.
        train, test = slice(len(files)), slice(len(files), None)
        files, labels = [*files, *test_files], np.concatenate([labels, test_labels])
    elif test_share is None:
        train, test = np.arange(len(files)), np.arange(0)
    else:
        test = stratified(labels, max(round(test_share * len(files)), 1), seed=2)
        train = np.setdiff1d(np.arange(len(files)), test)
    what = {"source": "folder", "content": content, "split": is_split, **asdict(preprocessing)}
    images = _decoded(what, files, preprocessing, (path, content))
    named = (images, [file.relative_to(path).as_posix() for file in files])
    return ImageSets(images[train], labels[train], images[test], labels[test], names, named=named)


def _is_split(path: Path) -> bool:
    return (path / "train").is_dir() and (path / "test").is_dir()


def _decoded(
    what: dict[str, Any], files: list[Path], preprocessing: Preprocessing, folder: tuple[Path, str]
) -> np.ndarray:
    """(N, C, H, W), uint8."""

    def decode(path: Path) -> np.ndarray:
        return decode_image(repr(str(path)), path, preprocessing)

    try:
        shape = decode(files[0]).shape if preprocessing.size is None else preprocessing.shape
    except UserError:
        each(decode, files, "images")
        raise

    def decode_alike(path: Path) -> np.ndarray:
        image = decode(path)
        if image.shape != shape:
            raise UserError(
                f"{str(path)!r} is {image.shape[2]}×{image.shape[1]} pixels and {str(files[0])!r} "
                f"is {shape[2]}×{shape[1]}; give size = N to resize all images to N×N"
            )
        return image

    return decoded_images(what, files, shape, decode_alike, [folder])


def _classes(path: Path) -> tuple[str, ...]:
    names = sorted(p.name for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(names) < 2:
        raise UserError(f"{str(path)!r} has {len(names)} class folders; allowed: 2 or more")
    return tuple(names)


def _listed(
    path: Path, names: tuple[str, ...], files: list[Path], *, required: bool = True
) -> tuple[list[Path], np.ndarray]:
    """Those of the image files that lie in a class's folder, class by class, and their labels."""
    unknown = sorted(set(_classes(path)) - set(names))
    if unknown:
        raise UserError(
            f"{str(path / unknown[0])!r} is a class that the training images do not "
            f"have; allowed: {', '.join(names[:20])}"
        )
    start = len(path.parts)
    own: dict[str, list[Path]] = {name: [] for name in names}
    for file in files:
        if file.parts[:start] == path.parts and len(file.parts) > start + 1:
            own[file.parts[start]].append(file)
    empty = next((name for name in names if not own[name]), None)
    if required and empty is not None:
        own_folder = path / empty
        unread = unread_files(own_folder)
        raise UserError(f"class {empty!r} has no image in {str(own_folder)!r} {unread}".rstrip())
    labels = np.repeat(np.arange(len(names)), [len(own[name]) for name in names])
    return [file for name in names for file in own[name]], labels
