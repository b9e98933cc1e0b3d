"""What a user's own images are called: a hash of their content, wherever they lie."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from marginbench.data.choices.splits import ImageSets
from marginbench.data.files.places import cache_folder, place_of
from marginbench.errors import UserError
from marginbench.files import write_text_atomically

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
)
CONTENT_LENGTH = 16


def image_files(folder: Path) -> list[Path]:
    """The image files below a folder, sorted by their path within it; hidden ones left out.

    Symbolic links are followed. Everything that hashes or reads a folder of images takes its
    files from here, so that what is hashed is what is read.

    Raises:
        UserError: the folder cannot be read or has no image file, or a link leads back to a folder
            that it lies in.
    """
    try:
        found = list(_walk(folder))
    except OSError as error:
        raise UserError(f"{error.filename!r} cannot be read: {error.strerror}") from error
    if not found:
        raise UserError(
            f"{str(folder)!r} has no image file; allowed: files that end in "
            f"{', '.join(sorted(IMAGE_SUFFIXES))}"
        )
    start = len(str(folder))
    return [Path(path) for path in sorted(found, key=lambda path: path[start:])]


def _walk(folder: Path) -> Iterator[str]:
    # Strings, not paths: face sets have half a million files.
    suffixes = tuple(IMAGE_SUFFIXES)
    waiting: list[tuple[str, tuple[tuple[int, int], ...]]] = [(str(folder), ())]
    while waiting:
        place, above = waiting.pop()
        state = Path(place).stat()
        this = (state.st_dev, state.st_ino)
        if this in above:
            raise UserError(f"{place!r} is a link to a folder that it lies in; remove it")
        with os.scandir(place) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    waiting.append((entry.path, (*above, this)))
                elif entry.name.lower().endswith(suffixes) and entry.is_file():
                    yield entry.path


def content_key(place: Path) -> str:
    """Hash of a file's bytes, or of a folder's image files and their paths within it.

    Raises:
        UserError: something cannot be read, or a folder has no image file.
    """
    files = [place] if place.is_file() else image_files(place)

    def compute() -> str:
        total = hashlib.sha256()
        for file in files:
            name = "" if file == place else file.relative_to(place).as_posix()
            with file.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            total.update(os.fsencode(name) + f"\0{digest}\n".encode())
        return total.hexdigest()[:CONTENT_LENGTH]

    return kept_digest(str(place), files, compute)


def kept_digest(what: str, files: Iterable[Path], compute: Callable[[], str]) -> str:
    """A digest of files, computed once: it is kept in the cache folder by their paths and times.

    Args:
        what: the digest's own name, so that two of the same files are not taken for each other.
        files: all that are read for it.
        compute: makes it, :data:`CONTENT_LENGTH` characters.

    Raises:
        UserError: something cannot be read.
    """
    try:
        listing = hashlib.sha256(os.fsencode(what))
        for file in files:
            state = file.stat()
            # The time of the last change is no user's to set: archives and copies give files of
            # one size the same time of modification.
            times = f"{state.st_size}\0{state.st_mtime_ns}\0{state.st_ctime_ns}"
            listing.update(b"\0" + os.fsencode(file) + f"\0{times}".encode())
        kept = cache_folder() / "content" / listing.hexdigest()[:32]
        # Anything but such digits is damaged, and made again.
        with contextlib.suppress(OSError, ValueError):
            known = kept.read_text()
            if len(known) == CONTENT_LENGTH and bytes.fromhex(known).hex() == known:
                return known
        key = compute()
    except OSError as error:
        raise UserError(f"{error.filename!r} cannot be read: {error.strerror}") from error
    # Only a saving: where the cache cannot be written, the files are read again next time.
    with contextlib.suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomically(kept, key)
    return key


def public_content(owner: str, files: Iterable[Path], read: Callable[[], ImageSets]) -> str:
    """Hash of a public set's images and labels, in the order in which they are used.

    It is of what the files say, not of their bytes: gzipped or not, they are the same set.

    Args:
        owner: the data source.
        files: all that ``read`` reads.
        read: the whole set.

    Returns:
        "" where one of the files is missing.

    Raises:
        UserError: they cannot be read or are damaged.
    """
    there = list(files)
    if not all(file.is_file() for file in there):
        return ""

    def compute() -> str:
        sets, total = read(), hashlib.sha256()
        for array in (sets.train_images, sets.train_labels, sets.test_images, sets.test_labels):
            total.update(f"{array.dtype.str}{array.shape}".encode())
            total.update(np.ascontiguousarray(array).data)
        return total.hexdigest()[:CONTENT_LENGTH]

    return kept_digest(f"images and labels of {owner}", there, compute)


def fill_in_content(owner: str, values: dict[str, Any]) -> dict[str, Any]:
    """A cell's parameters with their ``content``, unless it is given already.

    With it given, the files need not be there: a report can be made where the runs are and the
    data is not.

    Args:
        owner: for messages.
        values: with ``name`` and ``content``.

    Raises:
        UserError: nothing has that name.
    """
    if values["content"]:
        return values
    return values | {"content": _key_once(place_of(owner, values["name"]))}


def check_content(owner: str, place: Path, expected: str) -> None:
    """Make sure that the files are those of the cell.

    Raises:
        UserError: they are others.
    """
    found = content_key(place)
    if found != expected:
        # Cells declared anew in this process are to see the files as they are now.
        _key_once.cache_clear()
        raise UserError(
            f"{owner}: {str(place)!r} has the content {found!r}, and the cell was declared with "
            f"content = {expected!r}: the files have changed since; put them back, or declare "
            "the cells anew"
        )


def while_unchanged(
    owner: str, files: Iterable[tuple[Path, str]], blocks: Iterable[np.ndarray]
) -> Iterator[np.ndarray]:
    """What is decoded from files, and at its end an error if they changed meanwhile.

    So nothing is kept under the name of a content that it is not of.

    Args:
        owner: for messages.
        files: each with its content.
        blocks: what is decoded.

    Raises:
        UserError: see :func:`check_content`.
    """
    yield from blocks
    for place, expected in files:
        check_content(owner, place, expected)


Part = tuple[str, Path]
"""A file or a folder of images and the part that it plays in a data set: "pairs", "training"."""


def fill_in_joint_content(
    values: dict[str, Any], parts: Callable[[], Iterable[Part]]
) -> dict[str, Any]:
    """As :func:`fill_in_content`, for data of several files and folders.

    Args:
        values: with ``content``.
        parts: called where ``content`` is to be filled in; different names.

    Raises:
        UserError: something cannot be read.
    """
    if values["content"]:
        return values
    return values | {"content": _joint([(role, _key_once(place)) for role, place in parts()])}


def check_joint_content(owner: str, parts: Iterable[Part], expected: str) -> dict[str, str]:
    """Make sure that all files are those of the cell.

    Args:
        owner: for messages.
        parts: as declared.
        expected: the cell's ``content``.

    Returns:
        Each part's own content, by its name.

    Raises:
        UserError: some are others, or cannot be read.
    """
    places = list(parts)
    found = [(role, content_key(place)) for role, place in places]
    if _joint(found) != expected:
        _key_once.cache_clear()
        raise UserError(
            f"{owner}: {', '.join(repr(str(place)) for _, place in places)} together have the "
            f"content {_joint(found)!r}, and the cell was declared with content = {expected!r}: "
            "the files have changed since; put them back, or declare the cells anew"
        )
    return dict(found)


def _joint(keys: list[tuple[str, str]]) -> str:
    text = "".join(f"{role}\0{key}\n" for role, key in keys)
    return hashlib.sha256(text.encode()).hexdigest()[:CONTENT_LENGTH]


@cache
def _key_once(place: Path) -> str:
    """:func:`content_key`, once a process: a suite's cells share their data."""
    return content_key(place)
