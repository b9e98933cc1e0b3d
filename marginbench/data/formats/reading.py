"""A file read, and the UserError where it cannot be."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from marginbench.data.formats.archives import DamagedArchive
from marginbench.errors import UserError


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


def read_text(path: Path) -> str:
    """A file's text.

    Raises:
        UserError: it cannot be read or is not in UTF-8.
    """
    try:
        with reading(path):
            return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{str(path)!r} is no text in UTF-8: {error}") from None
