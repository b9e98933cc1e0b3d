"""Files written whole or not at all, and no folders left of what failed."""

from __future__ import annotations

import contextlib
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\.tmp")


def temporary_beside(path: Path) -> Path:
    """A name in the file's folder that nobody else uses, for what is to become the file."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")


def remove_temporaries(folder: Path, older_than: float | None = None) -> None:
    """Remove what processes that were killed while they wrote have left in a folder.

    What cannot be removed stays; it disturbs nobody.

    Args:
        folder: there or not.
        older_than: how long nothing has been written into a file that goes, in seconds; None where
            the caller alone may write in the folder.
    """
    with contextlib.suppress(OSError):
        for path in list(folder.iterdir()):
            if _TEMPORARY.fullmatch(path.name):
                with contextlib.suppress(OSError):
                    if older_than is None or time.time() - path.stat().st_mtime > older_than:
                        path.unlink()


def write_atomically(
    path: Path, write: Callable[[BinaryIO], object], *, durable: bool = True
) -> None:
    """Write a file through a temporary one beside it, so that no reader ever sees a part of it.

    Args:
        path: the file; one that is there is replaced.
        write: called with the open binary file.
        durable: whether to wait until the content is on the disk, tens of milliseconds, so that
            even a power cut loses nothing. Not needed for what a checkpoint can restore.
    """
    temporary = temporary_beside(path)
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text_atomically(path: Path, text: str, *, durable: bool = True) -> None:
    """:func:`write_atomically` for UTF-8 text."""
    write_atomically(path, lambda file: file.write(text.encode()), durable=durable)


@contextlib.contextmanager
def no_empty_folders_on_error(folder: Path) -> Iterator[None]:
    """A block that may make a folder; if it raises, what it made and left empty goes again.

    Args:
        folder: that the block makes, with its parents, if need be. What was there before stays.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    except BaseException:
        # Innermost first; one that is not empty holds all its parents.
        with contextlib.suppress(OSError):
            for path in missing:
                if path.exists():
                    path.rmdir()
        raise
