"""npz files of unknown origin: types, shapes and sizes are checked before any unpacking."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from marginbench.data.formats.archives import DamagedArchive, check_memory, open_archive

SUFFIX = ".npy"
PLAIN_KINDS = "biufcSU"
MOST_DIMENSIONS = 8


@dataclass(frozen=True)
class ArrayHeader:
    """The header of an array in an archive.

    Attributes:
        shape: its lengths, each ≥ 0, at most 8.
        dtype: of numbers or texts.
    """

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def size(self) -> int:
        """Its bytes when unpacked."""
        return math.prod(self.shape) * self.dtype.itemsize


def array_names(path: Path) -> list[str]:
    """The names of the arrays in an npz file; nothing is unpacked.

    Raises:
        DamagedArchive: it is no npz file.
        OSError: the file cannot be read.
    """
    with open_archive(path) as archive:
        return _names(archive)


def array_headers(path: Path, names: Collection[str]) -> dict[str, ArrayHeader]:
    """The headers of arrays of an npz file; none of them is unpacked.

    Args:
        path: the file.
        names: of the arrays.

    Raises:
        DamagedArchive: it is no npz file, an array is missing, is of other than plain
            numbers or texts, or claims another size than its part of the file has.
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
    if dtype.hasobject or dtype.kind not in PLAIN_KINDS:
        what = "objects" if dtype.hasobject else "other than numbers and texts"
        raise DamagedArchive(f"{name!r}: arrays of {what} are not allowed")
    if len(shape) > MOST_DIMENSIONS:
        raise DamagedArchive(f"{name!r} has {len(shape)} dimensions; allowed: {MOST_DIMENSIONS}")
    header = ArrayHeader(shape, dtype)
    if any(length < 0 for length in shape) or header.size != size:
        raise DamagedArchive(
            f"{name!r} claims {dtype} {shape}, {header.size:,} bytes, and has {size:,}"
        )
    return header
