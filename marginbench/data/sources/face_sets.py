"""Face sets to train on: a folder a person, an npz file, or MXNet's RecordIO."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from marginbench.data.files.array_cache import cached_array
from marginbench.data.files.content import Part
from marginbench.data.files.image_folders import image_files
from marginbench.data.formats.array_files import read_training_arrays
from marginbench.data.formats.images import Preprocessing, decode_image, preprocess
from marginbench.data.formats.reading import read_text
from marginbench.data.formats.record_io import RecordFile
from marginbench.errors import UserError

RECORDS = "train.rec"
INDEX = "train.idx"
PROPERTY = "property"
# Float32, the type of labels, counts no further without gaps.
LARGEST_EXACT = 2**24


@dataclass(frozen=True)
class FaceSet:
    """Images of people, not yet decoded.

    Attributes:
        class_names: K, what the files call each person: a name, or a number.
        labels: (N,), int64, in [0, K).
        decode: makes the image of an index (C, H, W), uint8.
        remarks: sentences for the report.
    """

    class_names: tuple[str, ...]
    labels: np.ndarray
    decode: Callable[[int], np.ndarray]
    remarks: tuple[str, ...] = ()


def training_parts(location: Path) -> list[Part]:
    """The files that a training set consists of.

    Args:
        location: a folder with a folder a person, one with train.rec, train.idx and (if it is
            there) property, or an npz file.
    """
    if (location / RECORDS).is_file():
        files = [name for name in (RECORDS, INDEX, PROPERTY) if (location / name).is_file()]
        return [(name, location / name) for name in files]
    return [("images", location)]


def read_face_set(
    location: Path, files: Sequence[tuple[Path, str]], preprocessing: Preprocessing
) -> FaceSet:
    """A training set; its images are decoded only when they are asked for.

    Args:
        location: see :func:`training_parts`.
        files: those of :func:`training_parts`, each with its content.
        preprocessing: of its images.

    Raises:
        UserError: files that are missing, damaged or changed.
    """
    if location.is_file():
        return _read_npz(location, preprocessing)
    if (location / RECORDS).is_file():
        return _read_records(location, files, preprocessing)
    return _read_folder(location, preprocessing)


def _read_folder(location: Path, preprocessing: Preprocessing) -> FaceSet:
    start = len(location.parts)
    # An image outside a person's folder has no label.
    files = [path for path in image_files(location) if len(path.parts) > start + 1]
    if not files:
        raise UserError(
            f"{str(location)!r} has no image; allowed: a folder a person (PERSON/*.jpg), "
            f"{RECORDS} with {INDEX}, or an npz file"
        )
    names, labels = np.unique([path.parts[start] for path in files], return_inverse=True)

    def decode(number: int) -> np.ndarray:
        path = files[number]
        return decode_image(repr(str(path)), path, preprocessing)

    return FaceSet(tuple(str(name) for name in names), labels.astype(np.int64), decode)


def _read_npz(location: Path, preprocessing: Preprocessing) -> FaceSet:
    images, labels, names = read_training_arrays(location)

    def decode(number: int) -> np.ndarray:
        return preprocess(f"{str(location)!r}: image {number}", images[number], preprocessing)

    return FaceSet(names, labels, decode)


def _read_records(
    location: Path, files: Sequence[tuple[Path, str]], preprocessing: Preprocessing
) -> FaceSet:
    file = RecordFile(location / RECORDS)
    keys, identities = _image_keys(file)
    people = _number_of_people(location / PROPERTY)
    values = cached_array(
        {"source": "records", "content": "".join(key for _, key in files)},
        (len(keys),),
        np.int64,
        lambda: [_record_labels(file, keys, identities, people)],
        files,
    )
    found, labels = np.unique(values, return_inverse=True)
    remarks: tuple[str, ...] = ()
    if people is not None and len(found) < people:
        remarks = (
            f"{location.name}: {people:,} people by its file {PROPERTY}, of whom {len(found):,} "
            "have images.",
        )

    def decode(number: int) -> np.ndarray:
        key = keys[number]
        image = io.BytesIO(file.image_record(key).content)
        return decode_image(file.where(key), image, preprocessing)

    return FaceSet(tuple(str(label) for label in found), labels.astype(np.int64), decode, remarks)


def _image_keys(file: RecordFile) -> tuple[Sequence[int], list[int]]:
    """The keys of image records, and those of identity records.

    Record 0 of a face set holds no image but two labels, first and last: images are the records
    1 to first − 1, and each record of first to last − 1 gives one person's images. A set without
    it has images only.
    """
    header = file.image_record(0) if 0 in file else None
    if header is None or header.content:
        return file.keys.tolist(), []
    if header.flag < 2:
        raise UserError(
            f"{file.where(0)} is damaged: it has no image and {header.flag} labels; expected: "
            "two, the first and the last record of a person"
        )
    first, last = (file.whole_label(0, label) for label in header.labels[:2])
    if not 2 <= first <= last:
        raise UserError(
            f"{file.where(0)} is damaged: it says that people are the records {first} to "
            f"{last - 1}, and images those before"
        )
    if np.count_nonzero((file.keys >= 1) & (file.keys < first)) != first - 1:
        missing = next(key for key in range(1, first) if key not in file)
        raise UserError(
            f"{file.where(0)} says that images are the records 1 to {first - 1}, and the index "
            f"lacks record {missing}"
        )
    # Sets written anew by other tools keep the header and drop the records of people.
    people = file.keys[(file.keys >= first) & (file.keys < last)]
    return range(1, first), people.tolist()


def _record_labels(
    file: RecordFile, keys: Sequence[int], identities: list[int], people: int | None
) -> np.ndarray:
    """(N,), int64, each image's label, checked against the set's other records."""
    labels = np.empty(len(keys), dtype=np.int64)
    for position, key in enumerate(keys):
        # Of several labels the first is the person; the others are of the alignment.
        labels[position] = file.whole_label(key, file.image_record(key).labels[0])
        if people is not None and labels[position] >= people:
            raise UserError(
                f"{file.where(key)} is damaged: its label is {labels[position]}; allowed: 0 to "
                f"{people - 1}, by the file {PROPERTY}"
            )
    for key in identities if len(keys) < LARGEST_EXACT else []:
        record = file.image_record(key)
        if len(record.labels) < 2:
            raise UserError(
                f"{file.where(key)} is damaged: it has {record.flag} labels; expected: two, the "
                "first of a person's images and the one after the last"
            )
        start, end = (file.whole_label(key, label) for label in record.labels[:2])
        if not 1 <= start <= end <= len(keys) + 1 or len(set(labels[start - 1 : end - 1])) > 1:
            raise UserError(
                f"{file.where(key)} is damaged: it says that the records {start} to {end - 1} are "
                "one person's images, and they are not"
            )
    return labels


def _number_of_people(path: Path) -> int | None:
    """What "10572,112,112" begins with; None where there is no such file."""
    if not path.is_file():
        return None
    text = read_text(path).strip()
    fields = [field.strip() for field in text.split(",")]
    if not all(field.isascii() and field.isdecimal() and len(field) < 10 for field in fields):
        raise UserError(f"{str(path)!r} is {text[:100]!r}; expected: PEOPLE,HEIGHT,WIDTH")
    return int(fields[0])
