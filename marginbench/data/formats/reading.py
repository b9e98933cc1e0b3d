"""A file read, and the UserError where it cannot be."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from marginbench.data.formats.archives import DamagedArchive
from marginbench.errors import UserError
from marginbench.files import MOST_TEXT, read_regular


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """A block that reads a file.

    Raises:
        UserError: it, or the file that the system names, cannot be read or is a DamagedArchive.
    """
    try:
        yield
    except OSError as error:
        file = error.filename or str(path)
        raise UserError(f"{file!r} cannot be read: {error.strerror or error}") from error
    except DamagedArchive as error:
        raise UserError(f"{str(path)!r} cannot be read: {error}") from None


def read_text(path: Path, most: int = MOST_TEXT) -> str:
    """A file's text.

    Args:
        path: the file.
        most: the number of bytes that it may have.

    Raises:
        UserError: it cannot be read, is larger or is not in UTF-8.
    """
    try:
        with reading(path):
            return read_regular(path, most).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{str(path)!r} is no text in UTF-8: {error}") from None
