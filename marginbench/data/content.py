"""What a user's own images are called: a hash of their content, wherever they lie."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from marginbench.atomic_files import write_text_atomically
from marginbench.data.places import cache_folder, place_of
from marginbench.errors import UserError

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
)
CONTENT_LENGTH = 16


def image_files(folder: Path) -> list[Path]:
    """The image files below a folder, sorted by their path within it; hidden ones left out.

    Raises:
        UserError: the folder cannot be read.
    """
    try:
        found = list(_walk(folder))
    except OSError as error:
        raise UserError(f"{str(folder)!r} cannot be read: {error.strerror or error}") from error
    start = len(str(folder))
    return [Path(path) for path in sorted(found, key=lambda path: path[start:])]


def _walk(folder: Path) -> Iterator[str]:
    # Strings, not paths: face sets have half a million files.
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path))
            elif entry.name.lower().endswith(tuple(IMAGE_SUFFIXES)) and entry.is_file():
                yield entry.path


def content_key(place: Path) -> str:
    """Hash of a file's bytes, or of a folder's image files and their paths within it.

    Files are read once: the hash is kept in the cache folder beside their sizes and times.

    Raises:
        UserError: something cannot be read.
    """
    files = [place] if place.is_file() else image_files(place)
    try:
        listing = hashlib.sha256(str(place).encode())
        for file in files:
            state = file.stat()
            listing.update(f"\0{file}\0{state.st_size}\0{state.st_mtime_ns}".encode())
        kept = cache_folder() / "content" / listing.hexdigest()[:32]
        with contextlib.suppress(OSError):
            known = kept.read_text()
            if len(known) == CONTENT_LENGTH:
                return known
        total = hashlib.sha256()
        for file in files:
            name = "" if file == place else file.relative_to(place).as_posix()
            with file.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            total.update(f"{name}\0{digest}\n".encode())
    except OSError as error:
        raise UserError(f"{error.filename!r} cannot be read: {error.strerror}") from error
    key = total.hexdigest()[:CONTENT_LENGTH]
    # Only a saving: where the cache cannot be written, the files are read again next time.
    with contextlib.suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomically(kept, key)
    return key


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
