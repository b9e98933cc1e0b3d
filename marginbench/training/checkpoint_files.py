"""Checkpoint files: what one claims is checked before torch reads it.

torch's own restricted reader runs no code, but makes arrays of any size that a file names. A
checkpoint is an uncompressed zip archive of a pickle and of the tensors' storages; the pickle is
first read with stand-ins that make nothing, which compare each tensor with its storage.
"""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from marginbench.data.formats.archives import (
    DamagedArchive,
    check_checksums,
    check_memory,
    damage_named,
    open_archive,
)
from marginbench.data.formats.pickle_stand_ins import Function, RefusedPickle, StandIn
from marginbench.data.formats.plain_pickle import read_plain_pickle
from marginbench.errors import DamagedFile
from marginbench.files import open_regular

FIRST_BYTES = b"PK\x03\x04"
MOST_DIMENSIONS = 64
# Bytes of one number, by the name that torch has for a storage of them.
ITEM_SIZES = {
    "UntypedStorage": 1,
    "BoolStorage": 1,
    "ByteStorage": 1,
    "CharStorage": 1,
    "ShortStorage": 2,
    "HalfStorage": 2,
    "BFloat16Storage": 2,
    "IntStorage": 4,
    "FloatStorage": 4,
    "LongStorage": 8,
    "DoubleStorage": 8,
    "ComplexFloatStorage": 8,
    "ComplexDoubleStorage": 16,
}


def read_checkpoint_file(path: Path) -> dict[str, Any]:
    """What is in a checkpoint file; nothing in it is run.

    Returns:
        The entries by name; tensors on the CPU, each within its storage, whose values, shapes and
        types are whatever the file says.

    Raises:
        DamagedFile: it does not read well, or holds other things than plain values and tensors.
    """
    state = read_torch_file(path)
    if type(state) is not dict or not all(type(name) is str for name in state):
        raise DamagedFile(path, "it is no checkpoint of a run")
    return state


def read_torch_file(path: Path) -> Any:
    """Whatever torch.save has written, of plain values and tensors; nothing in it is run.

    Raises:
        DamagedFile: it does not read well, or holds other things.
    """
    with damage_named(path):
        _check(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch's own words are several lines, and advise to load the file without restrictions.
        raise DamagedFile(path, f"torch cannot read it ({type(error).__name__})") from None


def _check(path: Path) -> None:
    with open_regular(path) as file:
        check_memory(os.fstat(file.fileno()).st_size)
        # Otherwise torch takes it for a file of its former format, whatever archive follows.
        if file.read(len(FIRST_BYTES)) != FIRST_BYTES:
            raise DamagedArchive("it does not begin as a zip archive")
    with open_archive(path) as archive:
        parts = archive.infolist()
        packed = [part.filename for part in parts if part.compress_type != zipfile.ZIP_STORED]
        if packed:
            raise DamagedArchive(f"its part {packed[0]!r} is compressed")
        root = parts[0].filename.split("/")[0] if parts else ""
        sizes = {part.filename: part.file_size for part in parts}
        # torch looks for names whatever their case.
        if len({name.lower() for name in sizes}) < len(sizes) or f"{root}/data.pkl" not in sizes:
            raise DamagedArchive("its parts are not those of a checkpoint")
        check_checksums(archive)
        content = archive.read(f"{root}/data.pkl")
    try:
        read_plain_pickle(content, _FUNCTIONS, _storage_of(root, sizes))
    except RefusedPickle as error:
        raise DamagedArchive(f"it holds {error}") from None


@dataclass(frozen=True)
class _Storage(StandIn):
    """The bytes of one or more tensors.

    Attributes:
        size: how many.
        item: how many to a number; 1 where the tensor says so itself.
    """

    size: int
    item: int


class _Tensor(StandIn):
    """A tensor that lies within its storage."""

    def is_value(self) -> bool:
        return True


def _storage_of(root: str, sizes: dict[str, int]) -> Callable[[Any], _Storage]:
    def storage(reference: Any) -> _Storage:
        if type(reference) is not tuple or len(reference) != 5:
            raise RefusedPickle("a reference to something other than a storage")
        word, kind, name, location, count = reference
        if word != "storage" or type(kind) is not Function or type(name) is not str:
            raise RefusedPickle("a reference to something other than a storage")
        item, size = ITEM_SIZES.get(kind.name), sizes.get(f"{root}/data/{name}")
        if item is None or size is None or type(location) is not str or type(count) is not int:
            raise RefusedPickle("a reference to a storage that is not there")
        if count * item != size:
            raise RefusedPickle(f"a storage of {size} bytes that claims {count} numbers")
        return _Storage(size, item)

    return storage


def _tensor(
    storage: Any,
    offset: Any,
    size: Any,
    stride: Any,
    gradient: Any,
    hooks: Any,
    metadata: Any = None,
    item: int | None = None,
) -> _Tensor:
    """A tensor that torch would not enlarge the storage for."""
    if (
        type(storage) is not _Storage
        or type(gradient) is not bool
        or type(hooks) is not dict
        or hooks
        or metadata is not None
        or type(size) is not tuple
        or type(stride) is not tuple
        or len(size) != len(stride)
        or len(size) > MOST_DIMENSIONS
        or any(type(number) is not int or number < 0 for number in (offset, *size, *stride))
    ):
        raise RefusedPickle("a tensor that is not rebuilt as torch does it")
    end = offset
    if math.prod(size):
        end += 1 + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if end * (item or storage.item) > storage.size:
        raise RefusedPickle(f"a tensor that ends beyond its storage of {storage.size} bytes")
    return _Tensor()


def _tensor_of_type(*arguments: Any) -> _Tensor:
    """As torch writes types that have no storage of their own."""
    *common, kind = arguments[:7]
    dtype = getattr(torch, kind.name, None) if type(kind) is Function else None
    if not isinstance(dtype, torch.dtype):
        raise RefusedPickle("a tensor of no type")
    return _tensor(*common, *arguments[7:8], item=dtype.itemsize)  # type: ignore[misc]


_TYPES = [name for name in dir(torch) if isinstance(getattr(torch, name), torch.dtype)]
_FUNCTIONS = {
    ("collections", "OrderedDict"): Function("OrderedDict", lambda: {}),
    ("torch._utils", "_rebuild_tensor_v2"): Function("_rebuild_tensor_v2", _tensor),
    ("torch._utils", "_rebuild_tensor_v3"): Function("_rebuild_tensor_v3", _tensor_of_type),
    ("torch.storage", "UntypedStorage"): Function("UntypedStorage"),
    **{("torch", name): Function(name) for name in (*ITEM_SIZES, *_TYPES)},
}
