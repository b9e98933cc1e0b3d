"""Training on a face set, verifying on LFW and others: Table 5, unrestricted with outside data."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field

from marginbench.data import ImageData, VerificationPairs, data_source
from marginbench.data.choices.lfw_protocol import read_pairs
from marginbench.data.choices.people_choice import choose_people
from marginbench.data.choices.people_on_both_sides import (
    check_overlap,
    exclude_people,
    names_of_classes,
)
from marginbench.data.files.content import (
    Part,
    check_joint_content,
    fill_in_joint_content,
    while_unchanged,
)
from marginbench.data.files.mapped import in_blocks, mapped_array
from marginbench.data.files.places import place_of
from marginbench.data.formats.pictures import Colour
from marginbench.data.formats.verification_bins import verification_bin
from marginbench.data.sources.face_sets import FaceSet, Look, joined, read_face_set, training_parts
from marginbench.data.sources.lfw_images import find_image_folder, read_lfw_images
from marginbench.errors import UserError
from marginbench.plugins.parameters import PositiveInteger

TwoOrMore = Annotated[int, Field(ge=2)]
Names = Annotated[tuple[str, ...], Field(min_length=1)]

FACES = "data source 'faces'"
FOLDS = 10


def _complete(values: dict[str, Any]) -> dict[str, Any]:
    return fill_in_joint_content(
        values,
        lambda: (
            _places(
                values["name"], values["verify"], values["exclude"], values["people_names"]
            ).parts
        ),
    )


@data_source("faces", complete=_complete)
def faces(
    *,
    name: str,
    verify: Names,
    exclude: tuple[str, ...] = (),
    people_names: str | None = None,
    allow_overlap: bool = False,
    crop: PositiveInteger | None = None,
    verify_crop: PositiveInteger | None = None,
    size: PositiveInteger = 112,
    colour: Colour = "rgb",
    minimum_images: PositiveInteger = 1,
    train_people: TwoOrMore | None = None,
    content: str = "",
) -> ImageData:
    """Any face set to train on, LFW and ``.bin`` sets to verify on. There are no test images.

    All names are relative to the data folder. Images are decoded once, then kept in the cache
    folder.

    Args:
        name: of the training set: a folder with a folder a person (PERSON/*.jpg), an npz file
            with x_train and y_train (and classes, the people's names), or a folder with MXNet's
            train.rec, train.idx and property.
        verify: one or more of LFW's folder (pairs.txt beside the folder of images; all ten folds
            of view 2 are tested) and ``.bin`` files (lfw.bin, cfp_fp.bin, agedb_30.bin, …).
        exclude: lists of people not to train on: a file with one name or class a line, one like
            LFW's people.txt, or LFW's folder, for the people.txt in it.
        people_names: a file of "CLASS NAME" lines, for sets that call their people by numbers.
        allow_overlap: whether people may be trained on and verified on, which else is an error.
            Names are compared by their letters and digits.
        crop: the training images' central crop×crop pixels; None for whole images.
        verify_crop: the same of the images to verify; None for ``crop``.
        size: every image is resized to size×size.
        colour: "rgb" or "grey".
        minimum_images: people with fewer images are not trained on.
        train_people: train on so many people, those with the most images; None for all.
        content: hash of all these files; filled in, and with it given the cell is tied to it.

    Raises:
        UserError: files that are missing, damaged or changed, people in both sets, people who
            cannot be left out because nobody is known by name, or parameters that are not
            allowed.
    """
    places = _places(name, verify, exclude, people_names)
    keys = check_joint_content(FACES, places.parts, content)
    own = [(place, keys[role]) for role, place in training_parts(places.training)]
    look = Look(size, colour, crop)
    faces = read_face_set(FACES, places.training, own, look)
    seen = Look(size, colour, crop if verify_crop is None else verify_crop)
    pairs = tuple(_verification(entry, place, keys, seen) for entry, place in places.verify)
    people = names_of_classes(FACES, faces, places.table)
    excluded, remarks = exclude_people(FACES, faces, people, places.exclude)
    left = np.flatnonzero(~excluded)
    counts = np.bincount(faces.labels, minlength=len(faces.class_names))
    kept = left[
        choose_people(FACES, counts[left], minimum_images=minimum_images, train_people=train_people)
    ]
    remarks += check_overlap(FACES, [people[k] for k in kept], pairs, allow_overlap=allow_overlap)
    images, labels = _decoded(faces, kept, own, look)
    return ImageData(
        train_images=torch.from_numpy(images),
        train_labels=torch.from_numpy(labels),
        test_images=torch.empty((0, *look.shape), dtype=torch.uint8),
        test_labels=torch.empty(0, dtype=torch.int64),
        class_names=tuple(people[k] or faces.class_names[k] for k in kept),
        verification=pairs,
        remarks=(*faces.remarks, *remarks),
    )


@dataclass(frozen=True)
class _Places:
    """Where everything is.

    Attributes:
        training: the training set.
        verify: each verification set, by its name below the data folder.
        exclude: each list of people, by what to call it.
        table: of names, or None.
    """

    training: Path
    verify: tuple[tuple[str, Path], ...]
    exclude: tuple[tuple[str, Path], ...]
    table: Path | None

    @property
    def parts(self) -> list[Part]:
        """Every file that counts."""
        parts = training_parts(self.training)
        for entry, place in self.verify:
            if place.is_dir():
                parts.append((f"verify {entry} pairs", place / "pairs.txt"))
                parts.append((f"verify {entry} images", find_image_folder(FACES, place)))
            else:
                parts.append((f"verify {entry}", place))
        parts += [(f"exclude {entry}", place) for entry, place in self.exclude]
        if self.table is not None:
            parts.append(("names", self.table))
        return parts


def _places(
    name: str, verify: Sequence[str], exclude: Sequence[str], people_names: str | None
) -> _Places:
    sets = []
    for entry in verify:
        place = place_of(FACES, entry, "verify")
        if place.is_dir() and not (place / "pairs.txt").is_file():
            raise UserError(
                f"{FACES}: verify = {entry!r} is not allowed, as {str(place)!r} has no pairs.txt; "
                "allowed: LFW's folder with pairs.txt, or a .bin file"
            )
        if place.is_file() and place.suffix != ".bin":
            raise UserError(
                f"{FACES}: verify = {entry!r} is not allowed; allowed: LFW's folder with "
                "pairs.txt, or a .bin file"
            )
        sets.append((entry, place))
    names = [_set_name(place) for _, place in sets]
    twice = next((k for k in names if names.count(k) > 1), None)
    if twice is not None:
        raise UserError(
            f"{FACES}: verify = {list(verify)} is not allowed: two sets are called {twice!r}"
        )
    lists = []
    for entry in exclude:
        place = place_of(FACES, entry, "exclude")
        is_folder = place.is_dir()
        if is_folder and not (place / "people.txt").is_file():
            raise UserError(
                f"{FACES}: exclude = {entry!r} is not allowed, as {str(place)!r} has no "
                "people.txt; allowed: a list of names, or LFW's folder with people.txt"
            )
        lists.append((f"{entry}/people.txt", place / "people.txt") if is_folder else (entry, place))
    table = None if people_names is None else place_of(FACES, people_names, "people_names")
    return _Places(place_of(FACES, name), tuple(sets), tuple(dict.fromkeys(lists)), table)


def _set_name(place: Path) -> str:
    return place.name if place.is_dir() else place.stem


def _verification(
    entry: str, place: Path, keys: Mapping[str, str], look: Look
) -> VerificationPairs:
    options: dict[str, Any] = {"size": look.size, "colour": look.colour, "crop": look.crop}
    if place.is_file():
        return verification_bin(FACES, place, keys[f"verify {entry}"], **options)
    folds = read_pairs(FACES, place / "pairs.txt", folds=FOLDS)
    folder = find_image_folder(FACES, place)
    store = read_lfw_images(FACES, folder, keys[f"verify {entry} images"], **options)
    return store.pairs(
        dict(enumerate(folds)),
        name=_set_name(place),
        description=(
            f"LFW ({folder.name}), view 2, unrestricted with outside data: "
            f"{sum(map(len, folds)):,} pairs of "
            f"{entry}/pairs.txt in {FOLDS} folds"
        ),
        tested_folds=None,
    )


def _decoded(
    faces: FaceSet, kept: np.ndarray, files: Sequence[tuple[Path, str]], look: Look
) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, C, H, W) and labels (N,) of some of the people."""
    new_label = np.full(len(faces.class_names), -1)
    new_label[kept] = np.arange(len(kept))
    chosen = np.flatnonzero(new_label[faces.labels] >= 0)
    what = {
        "source": "faces",
        "content": joined(files),
        "size": look.size,
        "colour": look.colour,
        "crop": look.crop,
        # Only what is trained on is decoded: a small part of millions of images takes minutes.
        "chosen": hashlib.sha256(chosen.astype("<i8").tobytes()).hexdigest(),
    }
    images = mapped_array(
        what,
        (len(chosen), *look.shape),
        np.uint8,
        lambda: while_unchanged(
            FACES, files, in_blocks([int(number) for number in chosen], faces.decode)
        ),
    )
    return images, new_label[faces.labels[chosen]].astype(np.int64)
