"""A hash of the content of files and folders, whatever their path."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from marginbench.data.choices.image_sets import ImageSets
from marginbench.data.files.image_folders import image_files
from marginbench.data.files.paths import cache_folder
from marginbench.data.formats.images import is_transparent
from marginbench.data.formats.reading import reading
from marginbench.errors import UserError, each
from marginbench.files import read_regular, write_text_atomically

CONTENT_LENGTH = 16
VERSION = b"2"
"""Of the way in which content is hashed: earlier digests that are kept are not taken."""


def content_key(path: Path) -> str:
    """Hash of a file's bytes, or of a folder's image files and their paths within it.

    Raises:
        UserError: something cannot be read, or a folder has no image file.
    """
    files = [path] if path.is_file() else image_files(path)

    def line(file: Path) -> bytes:
        name = "" if file == path else file.relative_to(path).as_posix()
        with reading(file), file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            stream.seek(0)
            # Earlier versions dropped the transparency: other pixels, and so other content.
            mark = "\0on white" if name and is_transparent(stream) else ""
        return os.fsencode(name) + f"\0{digest}{mark}\n".encode()

    def compute() -> str:
        lines = b"".join(each(line, files, "files"))
        return hashlib.sha256(lines).hexdigest()[:CONTENT_LENGTH]

    return kept_digest(str(path), files, compute)


def kept_digest(what: str, files: Iterable[Path], compute: Callable[[], str]) -> str:
    """A digest of files, computed once: it is kept in the cache folder by their paths and times.

    Args:
        what: the digest's own name, so that two of the same files are not taken for each other.
        files: all that are read for it.
        compute: makes it, :data:`CONTENT_LENGTH` characters.

    Raises:
        UserError: something cannot be read.
    """
    with reading(Path(what)):
        listing = hashlib.sha256(VERSION + os.fsencode(what))
        for file in files:
            state = file.stat()
            # The time of the last change is no user's to set: archives and copies give files of
            # one size the same time of modification.
            times = f"{state.st_size}\0{state.st_mtime_ns}\0{state.st_ctime_ns}"
            listing.update(b"\0" + os.fsencode(file) + f"\0{times}".encode())
        kept = cache_folder() / "content" / listing.hexdigest()[:32]
        # Anything but such digits is damaged, and made again.
        with contextlib.suppress(OSError, ValueError):
            known = read_regular(kept).decode()
            if len(known) == CONTENT_LENGTH and bytes.fromhex(known).hex() == known:
                return known
        key = compute()
    # Only a saving: where the cache cannot be written, the files are read again next time.
    with contextlib.suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomically(kept, key)
    return key


def public_content(name: str, files: Iterable[Path], read: Callable[[], ImageSets]) -> str:
    """Hash of a public set's images and labels, in the order in which they are used.

    It is of the decoded values, not of the files' bytes: gzipped or not, they are the same set.

    Args:
        name: of the set.
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
        for _, *arrays in sets.splits:
            for array in arrays:
                total.update(f"{array.dtype.str}{array.shape}".encode())
                total.update(np.ascontiguousarray(array).data)
        return total.hexdigest()[:CONTENT_LENGTH]

    return kept_digest(f"images and labels of {name}", there, compute)


Part = tuple[str, Path]
"""A file or a folder of images and the part that it plays in a data set: "pairs", "training"."""


def fill_in_content(
    parts: Callable[[dict[str, Any]], Iterable[Part]],
) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """What fills in a cell's parameter ``content``, unless it is given already.

    With it given, the files need not be there: a report can be made where the runs are and the
    data is not.

    Args:
        parts: of the other parameters, everything that the data consists of.

    Returns:
        For :func:`marginbench.data.data_source`; it raises a UserError where something is not
        there or cannot be read.
    """

    def complete(values: dict[str, Any]) -> dict[str, Any]:
        if values["content"]:
            return values
        found = [(role, _key_once(path)) for role, path in parts(values)]
        return values | {"content": _joint(found)}

    return complete


def check_contents(parts: Iterable[Part], expected: str) -> dict[str, str]:
    """Make sure that the files are those of the cell.

    Args:
        parts: as declared.
        expected: the cell's ``content``.

    Returns:
        Each part's own content, by its name.

    Raises:
        UserError: some are others, or cannot be read.
    """
    parts = list(parts)
    found = [(role, content_key(path)) for role, path in parts]
    joint = _joint(found)
    if joint != expected:
        # Cells declared anew in this process are to see the files as they are now.
        _key_once.cache_clear()
        names = ", ".join(repr(str(path)) for _, path in parts)
        raise UserError(
            f"{names} {'has' if len(parts) == 1 else 'together have'} the content {joint!r}, and "
            f"the cell was declared with content = {expected!r}: the files have changed since; "
            "put them back, or declare the cells anew"
        )
    return dict(found)


def check_content(path: Path, expected: str) -> None:
    """:func:`check_contents` of one file or folder."""
    check_contents([("", path)], expected)


def _joint(keys: list[tuple[str, str]]) -> str:
    """The content of several parts; that of a single one is its own."""
    if len(keys) == 1:
        return keys[0][1]
    text = "".join(f"{role}\0{key}\n" for role, key in keys)
    return hashlib.sha256(text.encode()).hexdigest()[:CONTENT_LENGTH]


@cache
def _key_once(path: Path) -> str:
    """:func:`content_key`, once a process: a suite's cells share their data."""
    return content_key(path)
