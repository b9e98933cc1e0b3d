"""Pickled arrays of numbers, as numpy writes them in Python 2 and 3, read without numpy's part.

numpy's own functions are not called: of a made-up type they would take bytes for the addresses of
objects. The stand-ins here know uint8, booleans and two whole numbers, and keep the array's bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from marginbench.data.formats.archives import check_memory
from marginbench.data.formats.pickle_stand_ins import Function, RefusedPickle, StandIn, as_text
from marginbench.data.formats.plain_pickle import read_plain_pickle
from marginbench.data.formats.reading import reading
from marginbench.errors import UserError

ALLOWED = "lists, tuples, dictionaries, booleans, plain numbers, texts, bytes and arrays of bytes"
MOST_DIMENSIONS = 4
TYPES = {
    **dict.fromkeys(("u1", "uint8", "B"), "u1"),
    **dict.fromkeys(("b1", "bool", "?"), "b1"),
    **{"i4": "i4", "int32": "i4", "i8": "i8", "int64": "i8"},
}
"""Of arrays: images are uint8, and a verification set's answers may be of any."""


@dataclass
class PickledArray(StandIn):
    """An array of one of :data:`TYPES`; under construction as long as it has no content.

    Attributes:
        content: its bytes, as many as its shape says. Not copied where the pickle names it again.
        shape: of 1 to 4 dimensions.
        order: "C" with the last dimension first in the content, "F" with the first.
        code: numpy's of its type.
    """

    content: bytes | None = None
    shape: tuple[int, ...] = (0,)
    order: Literal["C", "F"] = "C"
    code: str = "u1"

    def is_value(self) -> bool:
        return self.content is not None

    def set_state(self, state: Any) -> None:
        if self.content is not None or type(state) is not tuple or len(state) != 5:
            raise RefusedPickle("a state set on what has none")
        _, shape, kind, by_columns, content = state
        self.fill(content, kind, shape, "F" if by_columns == 1 else "C")

    def fill(self, content: Any, kind: Any, shape: Any, order: Any) -> None:
        """Set everything.

        Raises:
            RefusedPickle: it does not go together.
        """
        if type(kind) is not _ItemType or type(content) is not bytes or order not in ("C", "F"):
            raise RefusedPickle("an array of other than numbers")
        if (
            type(shape) is not tuple
            or not 1 <= len(shape) <= MOST_DIMENSIONS
            or any(type(length) is not int or length < 0 for length in shape)
            or math.prod(shape) * int(kind.code[1]) != len(content)
        ):
            # Its shape is not quoted: nested pairs of one pair are small, and their text is not.
            raise RefusedPickle(f"an array of {len(content)} bytes that claims another shape")
        self.content, self.shape, self.order, self.code = content, shape, order, kind.code

    @property
    def size(self) -> int:
        """Its number of bytes."""
        return len(self.content or b"")

    def values(self) -> np.ndarray:
        """The array, read-only; its memory is that of the content."""
        flat = np.frombuffer(self.content or b"", dtype=f"<{self.code}")
        return flat.reshape(self.shape, order=self.order)


@dataclass
class _ItemType(StandIn):
    """numpy's dtype of one of :data:`TYPES`."""

    code: str

    def set_state(self, state: Any) -> None:
        # (version, order, base, field names, fields, ...): fields would be other than numbers.
        if type(state) is not tuple or len(state) < 5 or any(p is not None for p in state[2:5]):
            raise RefusedPickle("an array of other than plain numbers")
        if as_text(state[1]) not in ("|", "<"):
            raise RefusedPickle("an array whose numbers begin with their highest byte")


def read_pickle_file(path: Path) -> Any:
    """The value of a file that is a pickle of plain values and arrays of uint8.

    Args:
        path: the file.

    Returns:
        As :func:`marginbench.data.formats.plain_pickle.read_plain_pickle`; arrays as
        :class:`PickledArray`.

    Raises:
        UserError: the file cannot be read, is damaged, or asks for anything else.
    """
    with reading(path):
        check_memory(path.stat().st_size)
        content = path.read_bytes()
    try:
        return read_plain_pickle(content, FUNCTIONS)
    except RefusedPickle as error:
        raise UserError(
            f"{str(path)!r} is refused: it holds {error}; allowed: {ALLOWED}; nothing of it was run"
        ) from None


def _item_type(code: Any, *_: Any) -> _ItemType:
    name = as_text(code)
    if name.lstrip("|<") not in TYPES:
        raise RefusedPickle(f"an array of {name[:40]!r}")
    return _ItemType(TYPES[name.lstrip("|<")])


def _scalar(kind: Any, content: Any) -> bool | int:
    array = PickledArray()
    array.fill(content, kind, (1,), "C")
    return array.values()[0].item()


def _reconstruct(kind: Any, shape: Any, code: Any) -> PickledArray:
    if kind is not _ARRAY_TYPE or shape != (0,) or as_text(code) != "b":
        raise RefusedPickle("an array that is not rebuilt as numpy does it")
    return PickledArray()


def _from_buffer(content: Any, kind: Any, shape: Any, order: Any) -> PickledArray:
    array = PickledArray()
    array.fill(content, kind, shape, order)
    return array


_ARRAY_TYPE = Function("numpy.ndarray")
# numpy 2 renamed its core, and files of either name are about.
FUNCTIONS = {
    ("numpy", "ndarray"): _ARRAY_TYPE,
    ("numpy", "dtype"): Function("numpy.dtype", _item_type),
} | {
    (f"numpy.{core}.{module}", name): Function(name, call)
    for core in ("core", "_core")
    for module, name, call in (
        ("multiarray", "_reconstruct", _reconstruct),
        ("multiarray", "scalar", _scalar),
        ("numeric", "_frombuffer", _from_buffer),
    )
}
