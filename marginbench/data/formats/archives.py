"""Zip archives of unknown origin: the list of parts is checked before anything is unpacked."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import psutil

from marginbench.errors import DamagedFile
from marginbench.files import open_regular

ENCRYPTED = 1
# Deflate makes no more than 1,032 bytes of one.
MOST_UNPACKED = 1032


class DamagedArchive(Exception):
    """An archive that does not read well, or whose sizes cannot be or are too large."""


@contextlib.contextmanager
def open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip archive whose list of parts fits the file.

    Raises:
        DamagedArchive: it is none, two parts have one name, or a part is encrypted, is packed in
            another way than numpy's and torch's, or claims a size that it cannot have; or reading
            it within the block fails, for which zipfile has nearly any exception.
        OSError: the file cannot be read.
    """
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            _check_parts(archive.infolist(), path.stat().st_size)
            yield archive
    except DamagedArchive:
        raise
    except zipfile.BadZipFile as error:
        raise DamagedArchive(f"it is no whole zip archive ({str(error)[:200]})") from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DamagedArchive(f"it does not unpack ({type(error).__name__})") from None


def check_checksums(archive: zipfile.ZipFile) -> None:
    """Read every part.

    Raises:
        DamagedArchive: one fails its checksum.
    """
    broken = archive.testzip()
    if broken is not None:
        raise DamagedArchive(f"its part {broken!r} fails its checksum")


def check_memory(size: int) -> None:
    """Make sure that so many bytes of a file's content can be held.

    Raises:
        DamagedArchive: they are more than this machine's memory.
    """
    memory = psutil.virtual_memory().total
    if size > memory:
        raise DamagedArchive(f"it holds {size:,} bytes, and this machine's memory has {memory:,}")


@contextlib.contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """A block that reads an archive of a run folder.

    Raises:
        DamagedFile: it is missing, cannot be read or is a DamagedArchive.
    """
    try:
        yield
    except FileNotFoundError:
        raise DamagedFile(path, "it is missing") from None
    except OSError as error:
        raise DamagedFile(path, f"it cannot be read ({error.strerror or error})") from None
    except DamagedArchive as error:
        raise DamagedFile(path, str(error)) from None


def _check_parts(parts: list[zipfile.ZipInfo], size: int) -> None:
    if len({part.filename for part in parts}) < len(parts):
        raise DamagedArchive("two of its parts have the same name")
    if sum(part.compress_size for part in parts) > size:
        raise DamagedArchive(f"its parts claim more than the file's {size:,} bytes")
    for part in parts:
        if part.flag_bits & ENCRYPTED:
            raise DamagedArchive(f"its part {part.filename!r} is encrypted")
        if part.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DamagedArchive(
                f"its part {part.filename!r} is compressed by method {part.compress_type}; "
                "allowed: none or deflate"
            )
        stored = part.compress_type == zipfile.ZIP_STORED
        if part.file_size > part.compress_size * (1 if stored else MOST_UNPACKED):
            raise DamagedArchive(
                f"its part {part.filename!r} claims to unpack {part.compress_size:,} bytes to "
                f"{part.file_size:,}"
            )
