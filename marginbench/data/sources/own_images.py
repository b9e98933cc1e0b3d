"""A user's own images: a folder of image files, or an npz file.

Both are named relative to the data folder (``--data`` or MARGINBENCH_DATA), and a hash of their
content goes into the cell: images that move keep their runs, images that change do not.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from marginbench.data import ImageData, data_source
from marginbench.data.choices.splits import ImageSets, Validation, choose_images, stratified
from marginbench.data.files.array_cache import cached_array, in_blocks
from marginbench.data.files.content import (
    check_content,
    fill_in_content,
    image_files,
    while_unchanged,
)
from marginbench.data.files.places import place_of
from marginbench.data.formats.array_files import read_array_file
from marginbench.data.formats.pictures import Colour, crop_and_resize, decode_picture
from marginbench.errors import UserError
from marginbench.plugins.parameters import PositiveInteger

Share = Annotated[float, Field(gt=0, lt=1)]
ClassNumber = Annotated[int, Field(ge=0)]

FOLDER = "data source 'folder'"
NPZ = "data source 'npz'"


@data_source("folder", complete=partial(fill_in_content, FOLDER))
def folder(
    *,
    name: str,
    size: PositiveInteger | None = None,
    colour: Colour = "rgb",
    test_share: Share | None = None,
    validation: Validation = "none",
    train_count: PositiveInteger | None = None,
    test_count: PositiveInteger | None = None,
    left_out: tuple[ClassNumber, ...] = (),
    content: str = "",
) -> ImageData:
    """Image files, a folder a class: NAME/train/CLASS/* and NAME/test/CLASS/*, or NAME/CLASS/*.

    Decoded once, then kept in the cache folder. Classes are numbered in the order of their names;
    symbolic links are followed.

    Args:
        name: of the folder, relative to the data folder.
        size: every image is resized to size×size; None for images of one size already.
        colour: "rgb" or "grey".
        test_share: of NAME/CLASS/*, the share of each class's images that is for testing; None
            where there are train and test.
        validation, train_count, test_count, left_out: see
            :func:`marginbench.data.choices.splits.choose_images`.
        content: hash of the images; filled in, and with it given the cell is tied to it.

    Raises:
        UserError: files that are missing, damaged or changed, classes without images, or
            parameters that are not allowed.
    """
    place = place_of(FOLDER, name)
    check_content(FOLDER, place, content)
    sets = _decode_folder(place, content, size, colour, test_share)
    return choose_images(
        FOLDER,
        sets,
        validation=validation,
        train_count=train_count,
        test_count=test_count,
        left_out=left_out,
    )


@data_source("npz", complete=partial(fill_in_content, NPZ))
def npz(
    *,
    name: str,
    size: PositiveInteger | None = None,
    validation: Validation = "none",
    train_count: PositiveInteger | None = None,
    test_count: PositiveInteger | None = None,
    left_out: tuple[ClassNumber, ...] = (),
    content: str = "",
) -> ImageData:
    """An npz file in the layout of Keras or MedMNIST, grey or RGB.

    See :func:`marginbench.data.formats.array_files.read_array_file` for the layout.

    Args:
        name: of the file, relative to the data folder.
        size: every image is resized to size×size; None for the size that they have.
        validation, train_count, test_count, left_out, content: as for ``folder``.

    Raises:
        UserError: a file that is missing, damaged or changed, or parameters that are not allowed.
    """
    place = place_of(NPZ, name)
    check_content(NPZ, place, content)

    sets = read_array_file(NPZ, place)
    # It may have changed since it was hashed.
    check_content(NPZ, place, content)
    if size is not None:
        sets = _resized_sets(sets, content, size)
    return choose_images(
        NPZ,
        sets,
        validation=validation,
        train_count=train_count,
        test_count=test_count,
        left_out=left_out,
    )


def _resized_sets(sets: ImageSets, content: str, size: int) -> ImageSets:
    def resized(split: str, images: np.ndarray) -> np.ndarray:
        channels = images.shape[1]

        def resize(image: np.ndarray) -> np.ndarray:
            colour: Colour = "grey" if channels == 1 else "rgb"
            return crop_and_resize(split, image, size=size, colour=colour, crop=None)

        return cached_array(
            {"source": "npz", "content": content, "size": size, "split": split},
            (len(images), channels, size, size),
            np.uint8,
            lambda: in_blocks(images, resize),
        )

    return replace(
        sets,
        train_images=resized("train", sets.train_images),
        test_images=resized("test", sets.test_images),
    )


def _decode_folder(
    place: Path, content: str, size: int | None, colour: Colour, test_share: float | None
) -> ImageSets:
    is_split = (place / "train").is_dir() and (place / "test").is_dir()
    if is_split and test_share is not None:
        raise UserError(
            f"{FOLDER}: test_share = {test_share:g} is not allowed, as {str(place)!r} has 'train' "
            "and 'test'; allowed: None"
        )
    if not is_split and test_share is None:
        raise UserError(
            f"{FOLDER}: {str(place)!r} has no 'train' and 'test'; allowed: both of them, with a "
            "folder a class in each, or a folder a class and test_share from 0 to 1"
        )
    found = image_files(place)
    train_place = place / "train" if is_split else place
    names = _classes(train_place)
    files, labels = _listed(train_place, names, found)
    if is_split:
        test_files, test_labels = _listed(place / "test", names, found, required=False)
        train, test = np.split(np.arange(len(files) + len(test_files)), [len(files)])
        files, labels = [*files, *test_files], np.concatenate([labels, test_labels])
    else:
        test = stratified(labels, max(round((test_share or 0) * len(files)), 1), seed=2)
        train = np.setdiff1d(np.arange(len(files)), test)
    images = _decoded(place, content, files, size, colour, is_split)
    return ImageSets(images[train], labels[train], images[test], labels[test], names)


def _decoded(
    place: Path, content: str, files: list[Path], size: int | None, colour: Colour, is_split: bool
) -> np.ndarray:
    """(N, C, H, W), uint8."""

    def decode(path: Path) -> np.ndarray:
        return decode_picture(f"{FOLDER}: {str(path)!r}", path, size=size, colour=colour)

    channels = 1 if colour == "grey" else 3
    shape = (channels, size, size) if size is not None else decode(files[0]).shape

    def decode_alike(path: Path) -> np.ndarray:
        image = decode(path)
        if image.shape != shape:
            raise UserError(
                f"{FOLDER}: {str(path)!r} is {image.shape[2]}×{image.shape[1]} pixels and "
                f"{str(files[0])!r} is {shape[2]}×{shape[1]}; give size = N to resize all images "
                "to N×N"
            )
        return image

    what = {"source": "folder", "content": content, "size": size, "colour": colour}
    return cached_array(
        {**what, "split": is_split},
        (len(files), *shape),
        np.uint8,
        lambda: while_unchanged(FOLDER, [(place, content)], in_blocks(files, decode_alike)),
    )


def _classes(place: Path) -> tuple[str, ...]:
    names = sorted(p.name for p in place.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(names) < 2:
        raise UserError(
            f"{FOLDER}: {str(place)!r} has {len(names)} class folders; allowed: 2 or more"
        )
    return tuple(names)


def _listed(
    place: Path, names: tuple[str, ...], files: list[Path], *, required: bool = True
) -> tuple[list[Path], np.ndarray]:
    """Those of the image files that lie in a class's folder, class by class, and their labels."""
    strangers = sorted(set(_classes(place)) - set(names))
    if strangers:
        raise UserError(
            f"{FOLDER}: {str(place / strangers[0])!r} is a class that the training images do not "
            f"have; allowed: {', '.join(names[:20])}"
        )
    start = len(place.parts)
    own: dict[str, list[Path]] = {name: [] for name in names}
    for file in files:
        if file.parts[:start] == place.parts and len(file.parts) > start + 1:
            own[file.parts[start]].append(file)
    empty = next((name for name in names if not own[name]), None)
    if required and empty is not None:
        raise UserError(f"{FOLDER}: class {empty!r} has no image in {str(place / empty)!r}")
    labels = np.repeat(np.arange(len(names)), [len(own[name]) for name in names])
    return [file for name in names for file in own[name]], labels
