"""npz files and other zip archives from strangers: sizes are checked before unpacking."""

from __future__ import annotations

import contextlib
import math
import zipfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from marginbench.errors import DamagedFile

SUFFIX = ".npy"
ENCRYPTED = 1
# Deflate makes no more than 1,032 bytes of one.
MOST_UNPACKED = 1032


class DamagedArchive(Exception):
    """An archive that does not read well, or whose sizes cannot be or are too large."""


@dataclass(frozen=True)
class ArrayHeader:
    """What an array in an archive says of itself.

    Attributes:
        shape: its lengths, each ≥ 0.
        dtype: no objects.
    """

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def size(self) -> int:
        """Its bytes when unpacked."""
        return math.prod(self.shape) * self.dtype.itemsize


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
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
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


def check_arrays(path: Path) -> None:
    """Make sure that an npz file can be read whole.

    Raises:
        DamagedArchive: it cannot.
        OSError: the file cannot be read.
    """
    with open_archive(path) as archive:
        _headers(archive, _names(archive))
        check_checksums(archive)


def array_names(path: Path) -> list[str]:
    """The names of the arrays in an npz file; nothing is unpacked.

    Raises:
        DamagedArchive: it is no npz file.
        OSError: the file cannot be read.
    """
    with open_archive(path) as archive:
        return _names(archive)


def array_headers(path: Path, names: Collection[str]) -> dict[str, ArrayHeader]:
    """What arrays of an npz file say of themselves; none of them is unpacked.

    Args:
        path: the file.
        names: of the arrays.

    Raises:
        DamagedArchive: it is no npz file, an array is missing, has objects, or claims another
            size than its part of the file has.
        OSError: the file cannot be read.
    """
    with open_archive(path) as archive:
        return _headers(archive, names)


def read_arrays(path: Path, names: Collection[str]) -> dict[str, np.ndarray]:
    """Arrays of an npz file.

    Raises:
        DamagedArchive: as :func:`array_headers`; or one fails its checksum, or together they are
            larger than this machine's memory.
        OSError: the file cannot be read.
    """
    arrays = {}
    with open_archive(path) as archive:
        check_memory(sum(header.size for header in _headers(archive, names).values()))
        for name in names:
            with archive.open(name + SUFFIX) as stream:
                arrays[name] = np.lib.format.read_array(stream, allow_pickle=False)
                # Only at its end does a part's checksum count.
                stream.read(1)
    return arrays


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


def _names(archive: zipfile.ZipFile) -> list[str]:
    return [n.removesuffix(SUFFIX) for n in archive.namelist() if n.endswith(SUFFIX)]


def _headers(archive: zipfile.ZipFile, names: Collection[str]) -> dict[str, ArrayHeader]:
    parts = {part.filename: part for part in archive.infolist()}
    missing = [name for name in names if name + SUFFIX not in parts]
    if missing:
        raise DamagedArchive(f"it has no array {missing[0]!r}")
    return {name: _header(archive, parts[name + SUFFIX]) for name in names}


def _header(archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> ArrayHeader:
    name = part.filename
    try:
        with archive.open(part) as stream:
            # Version 1 has headers of up to 64 KiB; the later ones are for named fields.
            if np.lib.format.read_magic(stream) != (1, 0):
                raise DamagedArchive(f"its part {name!r} is of a format other than .npy 1.0")
            shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
            size = part.file_size - stream.tell()
    except (DamagedArchive, zipfile.BadZipFile):
        raise
    except Exception:
        # numpy hands a damaged header to Python's parser, which raises nearly anything.
        raise DamagedArchive(f"its part {name!r} has no header of an array") from None
    if dtype.hasobject:
        raise DamagedArchive(f"{name!r}: arrays of objects are not allowed")
    header = ArrayHeader(shape, dtype)
    if any(length < 0 for length in shape) or header.size != size:
        raise DamagedArchive(
            f"{name!r} claims {dtype} {shape}, {header.size:,} bytes, and has {size:,}"
        )
    return header
