"""RecordIO, the files of MXNet's image sets, read without MXNet: memory-mapped, checked.

The format is dmlc-core's (include/dmlc/recordio.h). A record is one or more parts, each the magic
number, a word with the part's kind in its upper 3 bits and its length in the lower 29, and the
content, filled up to a multiple of 4 bytes; all little-endian. A record whose content has the
magic number at a multiple of 4 bytes is split there, and the magic number itself left out.

An image record begins with MXNet's IRHeader: flag (uint32), label (float32), id and id2 (uint64);
with flag > 0, so many labels (float32) follow and take the label's place. Then comes the image.
"""

from __future__ import annotations

import mmap
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from marginbench.data.formats.reading import reading
from marginbench.errors import UserError

MAGIC = 0xCED7230A
MAGIC_BYTES = struct.pack("<I", MAGIC)
WHOLE, FIRST, MIDDLE, LAST = range(4)
PART_HEADER = struct.Struct("<II")
IMAGE_HEADER = struct.Struct("<IfQQ")
LARGEST_LABEL_COUNT = 1024
LARGEST_LABEL = 2**53


@dataclass(frozen=True)
class ImageRecord:
    """A record of an image set.

    Attributes:
        flag: number of labels behind the header; 0 for the one in it.
        labels: one or more.
        content: the encoded image; empty in records that describe others.
    """

    flag: int
    labels: tuple[float, ...]
    content: bytes


class RecordFile:
    """A pair of files ``NAME.rec`` and ``NAME.idx``.

    Attributes:
        path: of the records.
        keys: (R,), int64, sorted, of the records that there are.
    """

    def __init__(self, path: Path) -> None:
        """Open them.

        Args:
            path: of the records; the index is beside them.

        Raises:
            UserError: they cannot be read, or the index is damaged.
        """
        self.path = path
        try:
            with reading(path), path.open("rb") as file:
                # The mapping keeps the file open as long as it is needed.
                self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:
            raise UserError(f"{str(path)!r} is empty") from None
        self.keys, self._offsets = _read_index(path.with_suffix(".idx"))

    def __contains__(self, key: int) -> bool:
        """Whether there is a record of that key."""
        return self._offset(key) is not None

    def image_record(self, key: int) -> ImageRecord:
        """A record of an image set, by its key.

        Raises:
            UserError: there is none, or it is damaged.
        """
        content = self.record(key)
        if len(content) < IMAGE_HEADER.size:
            raise self._damaged(
                key, f"it has {len(content)} bytes; an image's header has {IMAGE_HEADER.size}"
            )
        flag, label, _, _ = IMAGE_HEADER.unpack_from(content)
        if flag == 0:
            return ImageRecord(0, (label,), content[IMAGE_HEADER.size :])
        end = IMAGE_HEADER.size + 4 * flag
        if flag > LARGEST_LABEL_COUNT or end > len(content):
            raise self._damaged(key, f"it claims {flag} labels in {len(content)} bytes")
        labels = struct.unpack_from(f"<{flag}f", content, IMAGE_HEADER.size)
        return ImageRecord(flag, labels, content[end:])

    def whole_label(self, key: int, value: float) -> int:
        """A record's label as the whole number that it must be.

        Raises:
            UserError: it is none, or below 0.
        """
        # Infinity and "not a number" are no integers either.
        if not value.is_integer() or not 0 <= value <= LARGEST_LABEL:
            raise self._damaged(key, f"its label is {value:g}; allowed: a whole number from 0")
        return int(value)

    def record(self, key: int) -> bytes:
        """The content of a record, its parts joined.

        Raises:
            UserError: there is none of that key, or it is damaged.
        """
        offset = self._offset(key)
        if offset is None:
            index = self.path.with_suffix(".idx")
            raise UserError(f"{str(index)!r} has no record {key}")
        parts: list[bytes] = []
        position = offset
        while True:
            kind, content, position = self._part(key, position)
            if kind not in ((MIDDLE, LAST) if parts else (WHOLE, FIRST)):
                wanted = "a middle or last" if parts else "a whole or first"
                raise self._damaged(key, f"a part is of kind {kind} where {wanted} one must be")
            parts.append(content)
            if kind in (WHOLE, LAST):
                return MAGIC_BYTES.join(parts)

    def _offset(self, key: int) -> int | None:
        index = int(np.searchsorted(self.keys, key))
        if index == len(self.keys) or self.keys[index] != key:
            return None
        return int(self._offsets[index])

    def _part(self, key: int, position: int) -> tuple[int, bytes, int]:
        """Kind and content of the part that begins there, and where the next one does."""
        size = len(self._bytes)
        begin = position + PART_HEADER.size
        if begin > size:
            raise self._damaged(key, f"byte {position} is beyond the file's {size} bytes")
        magic, word = PART_HEADER.unpack_from(self._bytes, position)
        if magic != MAGIC:
            raise self._damaged(
                key, f"byte {position} has {magic:#010x} in place of the magic number {MAGIC:#010x}"
            )
        kind, length = word >> 29, word & 0x1FFFFFFF
        if begin + length > size:
            raise self._damaged(
                key, f"{length} bytes from byte {begin} on reach beyond the file's {size} bytes"
            )
        return kind, self._bytes[begin : begin + length], begin + length + -length % 4

    def where(self, key: int) -> str:
        """Where a record is, for messages."""
        return f"{str(self.path)!r}: record {key} (at byte {self._offset(key)})"

    def _damaged(self, key: int, reason: str) -> UserError:
        return UserError(f"{self.where(key)} is damaged: {reason}")


def _read_index(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Keys, sorted, and where the record of each begins."""
    try:
        with reading(path):
            text = path.read_text(encoding="ascii")
    except UnicodeDecodeError:
        raise UserError(f"{str(path)!r} is no index of records: it is no text") from None
    lines = text.splitlines()
    if not lines:
        raise UserError(f"{str(path)!r} names no record")
    try:
        # Millions of lines at once; only where that fails, one by one to name the line.
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            rows = np.loadtxt(lines, dtype=np.int64, comments=None, ndmin=2)
        plain = rows.shape[1] == 2 and rows.min() >= 0
    except (ValueError, OverflowError, Warning):
        plain = False
    if not plain:
        number, line = next(
            ((number, line) for number, line in enumerate(lines, start=1) if not _is_entry(line)),
            (1, lines[0]),
        )
        raise UserError(f"{str(path)!r} line {number} is {line[:100]!r}; expected: KEY<tab>OFFSET")
    order = np.argsort(rows[:, 0], kind="stable")
    keys = rows[order, 0]
    twice = np.flatnonzero(keys[1:] == keys[:-1])
    if len(twice):
        line = int(order[twice[0] + 1]) + 1
        raise UserError(f"{str(path)!r} line {line}: record {keys[twice[0]]} is there twice")
    return keys, rows[order, 1]


def _is_entry(line: str) -> bool:
    fields = line.split()
    return len(fields) == 2 and all(text.isdecimal() and len(text) < 19 for text in fields)
