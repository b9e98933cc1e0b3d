"""Training on a face set, verifying on LFW and others: Table 5, unrestricted with outside data."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field

from marginbench.data import ImageData, VerificationPairs, data_source
from marginbench.data.choices.lfw_protocol import Pair, read_pairs
from marginbench.data.choices.people_names import names_of_classes
from marginbench.data.choices.splits import Draw
from marginbench.data.choices.training_people import (
    check_overlap,
    choose_people,
    exclude_people,
)
from marginbench.data.choices.validation_people import (
    PeopleValidation,
    hold_out_people,
    pairs_of_people_held_out,
)
from marginbench.data.files.array_cache import decoded_images
from marginbench.data.files.content import Part, check_contents, fill_in_content
from marginbench.data.files.image_folders import unread_files
from marginbench.data.files.paths import data_path
from marginbench.data.formats.images import Colour, Preprocessing
from marginbench.data.formats.verification_bins import verification_bin
from marginbench.data.sources.face_sets import FaceSet, read_face_set, training_parts
from marginbench.data.sources.lfw_images import find_image_folder, read_lfw_images, unread_lfw
from marginbench.errors import UserError
from marginbench.plugins.parameters import AddedLater, PositiveInteger

TwoOrMore = Annotated[int, Field(ge=2)]
Names = Annotated[tuple[str, ...], Field(min_length=1)]

FOLDS = 10


def _parts(values: Mapping[str, Any]) -> list[Part]:
    names = ("name", "verify", "exclude", "people_names")
    return _find_paths(*(values[field] for field in names)).parts


def _unread(values: Mapping[str, Any]) -> str:
    (_, training), *others = _parts(values)
    lines = [unread_files(training, lambda parts: len(parts) > 1)] if training.is_dir() else []
    return " ".join(lines + [unread_lfw(path) for _, path in others if path.is_dir()]).strip()


@data_source("faces", complete=fill_in_content(_parts), unread=_unread)
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
    validation: Annotated[PeopleValidation, AddedLater("none")] = "none",
    validation_draw: Annotated[Draw, AddedLater(0)] = 0,
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
        validation: see :data:`marginbench.data.choices.validation_people.PeopleValidation`; the
            people left out are in two folds.
        validation_draw: which of the possible choices of people.

    Raises:
        UserError: files that are missing, damaged or changed, people in both sets, people who
            cannot be left out because no class has a name, or parameters that are not
            allowed.
    """
    paths = _find_paths(name, verify, exclude, people_names)
    keys = check_contents(paths.parts, content)
    own = [(path, keys[role]) for role, path in training_parts(paths.training)]
    preprocessing = Preprocessing(size, colour, crop)
    faces = read_face_set(paths.training, own, preprocessing)
    verified = Preprocessing(size, colour, crop if verify_crop is None else verify_crop)
    pairs = tuple(_verification(entry, path, keys, verified) for entry, path in paths.verify)
    people = names_of_classes(faces.class_names, paths.table)
    excluded, remarks = exclude_people(faces.class_names, people, paths.exclude)
    left = np.flatnonzero(~excluded)
    counts = np.bincount(faces.labels, minlength=len(faces.class_names))
    kept = left[
        choose_people(counts[left], minimum_images=minimum_images, train_people=train_people)
    ]
    remarks += check_overlap([people[k] for k in kept], pairs, allow_overlap=allow_overlap)
    held: list[tuple[dict[str, int], list[Pair]]] = []
    if validation == "held-out":
        images_of = {str(k): int(counts[k]) for k in kept}
        held = hold_out_people(repr(str(paths.training)), images_of, validation_draw, parts=2)
        out = {int(person) for group, _ in held for person in group}
        kept = np.array([k for k in kept if k not in out])
        images, labels = _decoded(faces, np.array(sorted(out)), own, preprocessing)
        pairs = (pairs_of_people_held_out(images, labels, sorted(out), held),)
    images, labels = _decoded(faces, kept, own, preprocessing)
    return ImageData(
        train_images=torch.from_numpy(images),
        train_labels=torch.from_numpy(labels),
        test_images=torch.empty((0, *preprocessing.shape), dtype=torch.uint8),
        test_labels=torch.empty(0, dtype=torch.int64),
        class_names=tuple(people[k] or faces.class_names[k] for k in kept),
        verification=pairs,
        remarks=(*faces.remarks, *remarks),
    )


@dataclass(frozen=True)
class _Paths:
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
        for entry, path in self.verify:
            if path.is_dir():
                parts.append((f"verify {entry} pairs", path / "pairs.txt"))
                parts.append((f"verify {entry} images", find_image_folder(path)))
            else:
                parts.append((f"verify {entry}", path))
        parts += [(f"exclude {entry}", path) for entry, path in self.exclude]
        if self.table is not None:
            parts.append(("names", self.table))
        return parts


def _find_paths(
    name: str, verify: Sequence[str], exclude: Sequence[str], people_names: str | None
) -> _Paths:
    sets = [(entry, _verified_path(entry)) for entry in verify]
    names = [_set_name(path) for _, path in sets]
    twice = next((k for k in names if names.count(k) > 1), None)
    if twice is not None:
        raise UserError(f"verify = {list(verify)} is not allowed: two sets are called {twice!r}")
    lists = tuple(dict.fromkeys(_exclude_list(entry) for entry in exclude))
    table = None if people_names is None else data_path(people_names, "people_names")
    return _Paths(data_path(name), tuple(sets), lists, table)


def _verified_path(entry: str) -> Path:
    path = data_path(entry, "verify")
    allowed = "allowed: LFW's folder with pairs.txt, or a .bin file"
    if path.is_dir() and not (path / "pairs.txt").is_file():
        raise UserError(
            f"verify = {entry!r} is not allowed, as {str(path)!r} has no pairs.txt; {allowed}"
        )
    if path.is_file() and path.suffix != ".bin":
        raise UserError(f"verify = {entry!r} is not allowed; {allowed}")
    return path


def _exclude_list(entry: str) -> tuple[str, Path]:
    path = data_path(entry, "exclude")
    if not path.is_dir():
        return entry, path
    if not (path / "people.txt").is_file():
        raise UserError(
            f"exclude = {entry!r} is not allowed, as {str(path)!r} has no people.txt; allowed: a "
            "list of names, or LFW's folder with people.txt"
        )
    return f"{entry}/people.txt", path / "people.txt"


def _set_name(path: Path) -> str:
    return path.name if path.is_dir() else path.stem


def _verification(
    entry: str, path: Path, keys: Mapping[str, str], preprocessing: Preprocessing
) -> VerificationPairs:
    if path.is_file():
        return verification_bin(path, keys[f"verify {entry}"], preprocessing)
    folds = read_pairs(path / "pairs.txt", folds=FOLDS)
    folder = find_image_folder(path)
    store = read_lfw_images(folder, keys[f"verify {entry} images"], preprocessing)
    return store.pairs(
        dict(enumerate(folds)),
        name=_set_name(path),
        description=(
            f"LFW ({folder.name}), view 2, unrestricted with outside data: "
            f"{sum(map(len, folds)):,} pairs of {entry}/pairs.txt in {FOLDS} folds"
        ),
        tested_folds=None,
    )


def _decoded(
    faces: FaceSet,
    kept: np.ndarray,
    files: Sequence[tuple[Path, str]],
    preprocessing: Preprocessing,
) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, C, H, W) and labels (N,) of some of the people."""
    new_label = np.full(len(faces.class_names), -1)
    new_label[kept] = np.arange(len(kept))
    chosen = np.flatnonzero(new_label[faces.labels] >= 0)
    images = decoded_images(
        {
            "source": "faces",
            "content": "".join(key for _, key in files),
            **asdict(preprocessing),
            # Only what is trained on is decoded: the small size of a set of millions takes minutes.
            "chosen": hashlib.sha256(chosen.astype("<i8").tobytes()).hexdigest(),
        },
        chosen.tolist(),
        preprocessing.shape,
        faces.decode,
        files,
    )
    return images, new_label[faces.labels[chosen]].astype(np.int64)
