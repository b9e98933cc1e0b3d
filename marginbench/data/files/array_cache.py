"""Decoded arrays on disk, memory-mapped: made once for all processes, named by what they are of."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import PIL

from marginbench.data.files.content import check_content
from marginbench.data.files.paths import cache_folder
from marginbench.data.formats.images import named_warnings
from marginbench.errors import UserError, each
from marginbench.files import locked, open_regular, write_atomically
from marginbench.processes import cores

# 2: transparent images are on white.
FORMAT = 2
BLOCK = 256

Item = TypeVar("Item")


def cached_array(
    what: dict[str, Any],
    shape: tuple[int, ...],
    dtype: type[np.generic],
    blocks: Callable[[], Iterable[np.ndarray]],
    files: Sequence[tuple[Path, str]] = (),
) -> np.ndarray:
    """The array of that description: from the cache, or made and put there block by block.

    It is mapped copy-on-write: nothing is read before it is used, processes on one machine share
    the pages, and writing to it changes no file. Of processes that start at once one makes it and
    the others wait, where the file system knows locks; else each writes a whole file or none. A
    file that does not read well is made again, and where the cache cannot be written the array is
    made in memory. Another version of Pillow may decode to other pixels, and so keeps its own.

    Args:
        what: everything that decides the values; plain values, the content's hash among them.
        shape: (N, ...).
        dtype: of the values.
        blocks: makes the array, in parts along its first axis.
        files: what it is made from, each with its content, checked once it is made: so nothing is
            kept under the name of a content that it is not of.

    Raises:
        UserError: the files have changed.
    """

    def make() -> Iterator[np.ndarray]:
        yield from blocks()
        for file, content in files:
            check_content(file, content)

    text = json.dumps({"pillow": PIL.__version__, "mapped": FORMAT, **what}, sort_keys=True)
    name = f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.npy"
    path = cache_folder() / "decoded" / name
    found = _open(path, shape, dtype)
    if found is None:
        # An OSError here is the cache's: decoding names its own files in errors of its own.
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            with _one_at_a_time(path):
                found = _open(path, shape, dtype)
                if found is None:
                    write_atomically(path, lambda file: _write(file, shape, dtype, make()))
                    found = _open(path, shape, dtype)
    if found is None:
        found = np.empty(shape, dtype)
        filled = 0
        for block in make():
            found[filled : filled + len(block)] = block
            filled += len(block)
    return found


def decoded_images(
    what: dict[str, Any],
    items: Sequence[Item],
    shape: tuple[int, int, int],
    decode: Callable[[Item], np.ndarray],
    files: Sequence[tuple[Path, str]] = (),
) -> np.ndarray:
    """(N, C, H, W), uint8: :func:`cached_array` of images, decoded on all cores there are for us.

    Args:
        what, files: see :func:`cached_array`.
        items: N of anything that identifies an image.
        shape: (C, H, W).
        decode: makes an image of an item.

    Raises:
        UserError: as ``decode``, of all items that it refuses.
    """

    def blocks() -> Iterator[np.ndarray]:
        with ThreadPoolExecutor(cores()) as pool, named_warnings():
            for start in range(0, len(items), BLOCK):
                try:
                    block = list(pool.map(decode, items[start : start + BLOCK]))
                except UserError:
                    # All are decoded, to be refused together.
                    each(lambda item: decode(item).shape, items, "images", pool.map)
                    raise
                yield np.stack(block)

    return cached_array(what, (len(items), *shape), np.uint8, blocks, files)


def _open(path: Path, shape: tuple[int, ...], dtype: type[np.generic]) -> np.ndarray | None:
    # A damaged header makes numpy's parser raise nearly anything.
    with contextlib.suppress(Exception):
        open_regular(path).close()
        array = np.lib.format.open_memmap(path, mode="c")
        if array.shape == shape and array.dtype == dtype:
            return array.view(np.ndarray)
    return None


def _write(
    file: BinaryIO, shape: tuple[int, ...], dtype: type[np.generic], blocks: Iterable[np.ndarray]
) -> None:
    # Written, not mapped: on a full disk a mapped file kills the process, and a written one raises.
    header = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(dtype)),
        "fortran_order": False,
        "shape": shape,
    }
    np.lib.format.write_array_header_1_0(file, header)
    for block in blocks:
        file.write(np.ascontiguousarray(block, dtype=dtype).data)


@contextlib.contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    with locked(path.with_name(f".{path.name}.lock")) as held:
        # With the lock held, whatever another process left half written is left for good.
        for stale in path.parent.glob(f".{path.name}.*.tmp") if held else ():
            stale.unlink(missing_ok=True)
        yield
