"""Files that are opened only if they are files, and are written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
import re
import stat
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from marginbench.errors import UserError

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\.tmp")
MOST_TEXT = 2**26
"""Bytes of a text file that is read whole; the largest that the project writes has 1 % of it."""


def open_regular(path: Path) -> io.BufferedReader:
    """Open a file to read it, without waiting for a pipe's writer and without reading a device.

    Raises:
        OSError: it cannot be opened, or is neither a regular file nor a link to one.
    """
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "it is not a file", str(path))
    return os.fdopen(file, "rb")


def read_regular(path: Path, most: int = MOST_TEXT) -> bytes:
    """A file whole; see :func:`open_regular`.

    Args:
        path: the file.
        most: the number of bytes that it may have.

    Raises:
        OSError: see there, or the file is larger.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        # It may grow meanwhile.
        content = file.read(most + 1) if size <= most else b""
    if max(size, len(content)) > most:
        raise OSError(errno.EFBIG, f"it has {size:,} bytes; allowed: at most {most:,}", str(path))
    return content


def is_only_ours(state: os.stat_result) -> bool:
    """Whether a file or folder is this user's, and no other user can write to it."""
    return state.st_uid == os.geteuid() and not state.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[bool]:
    """A block that one process at a time is in.

    Args:
        path: of the lock, an empty file, which stays.

    Yields:
        Whether the lock is held; False if the file system has no locks.

    Raises:
        OSError: the lock cannot be made; a link in its place is not followed.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            held = True
        except OSError:
            held = False
        yield held
    finally:
        os.close(file)


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
    with _put_in_place(path) as temporary, temporary.open("wb") as file:
        write(file)
        file.flush()
        if durable:
            os.fsync(file.fileno())


@contextlib.contextmanager
def output_file(path: Path) -> Iterator[Path]:
    """A block that writes a file that a user asked for, under the name that it is given.

    If the block ends well, the file gets its own name, and replaces one that is there. It has the
    permissions that the umask gives.

    Raises:
        UserError: it cannot be written, or something other than a file is there.
    """
    try:
        # A link stays, and the file that it names is replaced.
        target = Path(os.path.realpath(path))
        if os.path.lexists(target) and not target.is_file():
            raise OSError(errno.EINVAL, "it is not a file", str(path))
        with _put_in_place(target) as temporary:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
    except OSError as error:
        raise UserError(f"{str(path)!r} cannot be written: {error.strerror or error}") from error


@contextlib.contextmanager
def _put_in_place(path: Path) -> Iterator[Path]:
    """A block that writes a file under another name, which becomes ``path`` if it ends well."""
    temporary = temporary_beside(path)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


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
