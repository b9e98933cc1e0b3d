"""Pickles from strangers: read by a machine that knows lists, booleans, bytes and uint8 arrays.

Python's unpickler is not used at all, as it imports and calls whatever a pickle names. Here the
standard library's :func:`pickletools.genops` tells the instructions apart, which runs none of
them, and a small machine follows those that are admitted. The few functions of numpy that a
pickled array needs are stand-ins here, which do nothing but keep the array's bytes.

Every instruction is of the file and makes at most one value, and nothing copies a list: time and
memory grow in proportion to the file, whatever sizes it claims.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

ALLOWED = "lists, tuples, booleans, whole numbers, bytes and arrays of uint8"
LONGEST_INTEGER = 8

_CONSTANTS: dict[str, Any] = {
    "NONE": None,
    "NEWTRUE": True,
    "NEWFALSE": False,
}
_INTEGERS = {"INT", "BININT", "BININT1", "BININT2", "LONG1"}
_TEXTS = {"SHORT_BINUNICODE", "BINUNICODE"}
_BYTES = {"SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"}
# Text of Python 2, which is bytes; genops gives it as Latin-1.
_OLD_BYTES = {"SHORT_BINSTRING", "BINSTRING"}
_SHORT_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_STORES = {"PUT", "BINPUT", "LONG_BINPUT"}
_FETCHES = {"GET", "BINGET", "LONG_BINGET"}


class RefusedPickle(Exception):
    """A pickle that asks for what is not admitted, or is damaged. Nothing of it was run."""


class _Mark:
    """What the values of a list or tuple lie above."""


@dataclass
class _Bytes:
    """An array of uint8, under construction as long as it has no content."""

    content: bytes | None = None


@dataclass(frozen=True)
class _Function:
    """A name that a pickle may call, and what stands in for it."""

    name: str
    call: Callable[..., Any] | None


_MARK = _Mark()
_ARRAY_TYPE = _Function("numpy.ndarray", None)


class _ByteType:
    """numpy's dtype of one unsigned byte."""


def _byte_type(code: Any, *_: Any) -> _ByteType:
    if _text(code) not in ("u1", "|u1", "uint8", "B"):
        raise RefusedPickle(f"an array of {_text(code)[:40]!r}")
    return _ByteType()


def _reconstruct(kind: Any, shape: Any, code: Any) -> _Bytes:
    if kind is not _ARRAY_TYPE or shape != (0,) or _text(code) != "b":
        raise RefusedPickle("an array that is not rebuilt as numpy does it")
    return _Bytes()


def _from_buffer(content: Any, kind: Any, shape: Any, order: Any) -> _Bytes:
    array = _Bytes()
    _set_content(array, shape, kind, content)
    return array


def _encode(text: Any, coding: Any) -> bytes:
    """How Python 3 writes bytes into a pickle that Python 2 can read."""
    if type(text) is not str or coding not in ("latin1", "latin-1"):
        raise RefusedPickle("a call of _codecs.encode for something other than bytes")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    return b""


_FUNCTIONS: dict[tuple[str, str], _Function] = {
    ("numpy", "ndarray"): _ARRAY_TYPE,
    ("numpy", "dtype"): _Function("numpy.dtype", _byte_type),
    ("numpy.core.multiarray", "_reconstruct"): _Function("_reconstruct", _reconstruct),
    ("numpy._core.multiarray", "_reconstruct"): _Function("_reconstruct", _reconstruct),
    ("numpy.core.numeric", "_frombuffer"): _Function("_frombuffer", _from_buffer),
    ("numpy._core.numeric", "_frombuffer"): _Function("_frombuffer", _from_buffer),
    ("_codecs", "encode"): _Function("_codecs.encode", _encode),
    ("__builtin__", "bytes"): _Function("bytes", _no_bytes),
    ("builtins", "bytes"): _Function("bytes", _no_bytes),
}


def read_plain_pickle(content: bytes) -> Any:
    """The value of a pickle; arrays of uint8 come as their bytes.

    Args:
        content: the whole file.

    Returns:
        Lists, tuples, booleans, None, whole numbers of up to 64 bits, texts and bytes.

    Raises:
        RefusedPickle: it asks for anything else, or is damaged.
    """
    machine = _Machine()
    # genops asks a file for as many bytes as a pickle claims, which one in memory simply has not.
    operations = pickletools.genops(io.BytesIO(content))
    position: int | None = 0
    while True:
        try:
            operation, argument, position = next(operations)
            if operation.name == "STOP":
                return machine.result()
            machine.step(operation.name, argument)
        except RefusedPickle as error:
            raise RefusedPickle(f"{error} (byte {position})") from None
        except StopIteration:
            raise RefusedPickle("an end before its end") from None
        except Exception as error:
            # A damaged pickle makes genops and the machine raise nearly anything.
            reason = str(error)[:200] or type(error).__name__
            raise RefusedPickle(
                f"a damaged instruction after byte {position or 0}: {reason}"
            ) from None


class _Machine:
    """The stack and the memo of a pickle."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def result(self) -> Any:
        (value,) = self._stack
        return _finished(value)

    def step(self, name: str, argument: Any) -> None:
        """Follow one instruction.

        Raises:
            RefusedPickle: it is not admitted.
        """
        stack = self._stack
        if name in ("PROTO", "FRAME"):
            return
        if name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _INTEGERS:
            stack.append(_integer(argument))
        elif name in _TEXTS:
            stack.append(argument)
        elif name in _BYTES:
            stack.append(bytes(argument))
        elif name in _OLD_BYTES:
            stack.append(argument.encode("latin1"))
        elif name == "MARK":
            stack.append(_MARK)
        elif name in _SHORT_TUPLES:
            count = _SHORT_TUPLES[name]
            stack.append(tuple(map(_settled, self._pop(count))))
        elif name == "TUPLE":
            stack.append(tuple(map(_settled, self._above_mark())))
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name == "LIST":
            stack.append(self._above_mark())
        elif name in ("APPEND", "APPENDS"):
            values = self._pop(1) if name == "APPEND" else self._above_mark()
            if type(stack[-1]) is not list:
                raise RefusedPickle("something added to what is no list")
            stack[-1].extend(_finished(value) for value in values)
        elif name in _STORES:
            self._memo[int(argument)] = stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif name in _FETCHES:
            stack.append(self._memo[int(argument)])
        elif name == "GLOBAL":
            # genops joins module and name by a space, which neither may contain.
            stack.append(_function(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            stack.append(_function(*self._pop(2)))
        elif name == "REDUCE":
            function, arguments = self._pop(2)
            stack.append(_call(function, arguments))
        elif name == "BUILD":
            (state,) = self._pop(1)
            _build(stack[-1], state)
        else:
            raise RefusedPickle(f"the instruction {name}")

    def _pop(self, count: int) -> list[Any]:
        if len(self._stack) < count:
            raise RefusedPickle("an instruction for values that are not there")
        values = self._stack[len(self._stack) - count :]
        del self._stack[len(self._stack) - count :]
        if any(value is _MARK for value in values):
            raise RefusedPickle("a mark where a value must be")
        return values

    def _above_mark(self) -> list[Any]:
        values = []
        while True:
            value = self._stack.pop()
            if value is _MARK:
                return values[::-1]
            values.append(value)


def _integer(value: Any) -> int:
    if not -(2**63) <= value < 2**63:
        raise RefusedPickle("a whole number of more than 64 bits")
    return value


def _function(module: Any, name: Any) -> _Function:
    module, name = _text(module), _text(name)
    if (module, name) not in _FUNCTIONS:
        raise RefusedPickle(f"the call of {module[:80]}.{name[:80]}")
    return _FUNCTIONS[module, name]


def _call(function: Any, arguments: Any) -> Any:
    if type(function) is not _Function or function.call is None or type(arguments) is not tuple:
        raise RefusedPickle("a call of what is no function")
    try:
        return function.call(*arguments)
    except TypeError:
        raise RefusedPickle(
            f"a call of {function.name} with other arguments than its own"
        ) from None


def _build(value: Any, state: Any) -> None:
    """Fill in what numpy leaves to a second step."""
    if type(value) is _ByteType and type(state) is tuple and len(state) >= 5:
        # (version, order, base, field names, fields, ...): fields would be other than bytes.
        if any(part is not None for part in state[2:5]):
            raise RefusedPickle("an array of other than plain bytes")
    elif type(value) is _Bytes and value.content is None and type(state) is tuple:
        _, shape, kind, _, content = state
        _set_content(value, shape, kind, content)
    else:
        raise RefusedPickle("a state set on what has none")


def _set_content(array: _Bytes, shape: Any, kind: Any, content: Any) -> None:
    if type(kind) is not _ByteType or type(content) is not bytes:
        raise RefusedPickle("an array of other than uint8")
    # OpenCV's encoded images used to be (N, 1).
    is_row = type(shape) is tuple and shape in ((len(content),), (len(content), 1))
    if not is_row or any(type(length) is not int for length in shape):
        # Its shape is not quoted: nested pairs of one pair are small, and their text is not.
        raise RefusedPickle(f"an array of {len(content)} bytes that claims another shape")
    array.content = content


def _settled(value: Any) -> Any:
    """An array's bytes; anything else as it is."""
    return value.content if type(value) is _Bytes and value.content is not None else value


def _finished(value: Any) -> Any:
    """A value of the result, which no part of an array under construction may be."""
    value = _settled(value)
    if type(value) is _Bytes:
        raise RefusedPickle("an array without content")
    if isinstance(value, (_Function, _ByteType, _Mark)):
        raise RefusedPickle("a function or type as a value")
    return value


def _text(value: Any) -> str:
    if type(value) is bytes:
        return value.decode("latin1")
    if type(value) is not str:
        raise RefusedPickle("something other than text as a name")
    return value
