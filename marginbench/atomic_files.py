"""Files written whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


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
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
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
