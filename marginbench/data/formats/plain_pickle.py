"""Pickles of unknown origin, read by a machine that knows plain values and runs nothing.

Python's unpickler is not used at all, as it imports and calls whatever a pickle names. Here the
standard library's :func:`pickletools.genops` splits it into instructions, which runs none of
them, and a small machine follows those that are admitted. For each function that a kind of file
may name there is a stand-in, given by the caller; see :mod:`pickled_arrays`.

Every instruction is of the file and makes at most one value, nothing copies a list or a text, and
the number of instructions is limited: time and memory are bounded by the file's size, whatever
sizes it claims.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable
from typing import Any

from marginbench.data.formats.pickle_stand_ins import (
    Function,
    Functions,
    RefusedPickle,
    StandIn,
    as_text,
    on_one_line,
)

# A verification set of 200,000 images in arrays, some 25 instructions each, has 5 million.
MOST_INSTRUCTIONS = 10_000_000
LONGEST_KEY = 255

_SHORT_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_STORES = {"PUT", "BINPUT", "LONG_BINPUT"}
_FETCHES = {"GET", "BINGET", "LONG_BINGET"}


class _Mark(StandIn):
    """Below the values of a list or tuple on the stack."""


_MARK = _Mark()


def _integer(value: Any) -> int:
    if not -(2**63) <= value < 2**63:
        raise RefusedPickle("a whole number of more than 64 bits")
    return value


# What each instruction that needs nothing of the stack puts on it, of its argument.
_VALUES: dict[str, Callable[[Any], Any]] = {
    "NONE": lambda _: None,
    "NEWTRUE": lambda _: True,
    "NEWFALSE": lambda _: False,
    "MARK": lambda _: _MARK,
    "EMPTY_LIST": lambda _: [],
    "EMPTY_DICT": lambda _: {},
    **dict.fromkeys(("INT", "BININT", "BININT1", "BININT2", "LONG1"), _integer),
    **dict.fromkeys(("SHORT_BINUNICODE", "BINUNICODE", "BINFLOAT"), lambda value: value),
    **dict.fromkeys(("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"), bytes),
    # Text of Python 2, which is bytes; genops gives it as Latin-1.
    **dict.fromkeys(("SHORT_BINSTRING", "BINSTRING"), lambda text: text.encode("latin1")),
}


def read_plain_pickle(
    content: bytes, functions: Functions, stored: Callable[[Any], StandIn] | None = None
) -> Any:
    """The value of a pickle.

    Args:
        content: the whole file.
        functions: the names that it may use, besides those by which Python writes bytes.
        stored: makes a stand-in of a reference to something outside the pickle; None where there
            must be no such reference.

    Returns:
        Lists, tuples, dictionaries (with texts, bytes or whole numbers as keys), booleans, None,
        whole numbers of up to 64 bits, floating-point numbers, texts, bytes and the stand-ins that
        are values. A list may hold itself, and short files may nest deeply: whoever uses the
        value checks types and lengths before anything else.

    Raises:
        RefusedPickle: it asks for anything else, or is damaged.
    """
    machine = _Machine(functions, stored, len(content))
    # genops asks a file for as many bytes as a pickle claims, which one in memory simply has not.
    operations = pickletools.genops(io.BytesIO(content))
    position: int | None = 0
    try:
        for count, found in enumerate(operations):
            operation, argument, position = found
            if operation.name == "STOP":
                return machine.result()
            if count == MOST_INSTRUCTIONS:
                raise RefusedPickle(f"more than {MOST_INSTRUCTIONS:,} instructions")
            machine.step(operation.name, argument)
    except RefusedPickle as error:
        raise RefusedPickle(f"{error} (byte {position})") from None
    except Exception as error:
        # A damaged pickle makes genops and the machine raise nearly anything.
        reason = on_one_line(str(error), 200) or type(error).__name__
        raise RefusedPickle(f"a damaged instruction after byte {position or 0}: {reason}") from None
    raise RefusedPickle("an end before its end")


class _Machine:
    """The stack and the memo of a pickle."""

    def __init__(
        self, functions: Functions, stored: Callable[[Any], StandIn] | None, size: int
    ) -> None:
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._stored = stored
        self._still_encoded = size
        self._functions = {
            **functions,
            ("_codecs", "encode"): Function("_codecs.encode", self._encode),
            ("__builtin__", "bytes"): Function("bytes", lambda: b""),
            ("builtins", "bytes"): Function("bytes", lambda: b""),
        }

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
        if name in _VALUES:
            stack.append(_VALUES[name](argument))
        elif name in _SHORT_TUPLES:
            stack.append(tuple(self._pop(_SHORT_TUPLES[name])))
        elif name == "TUPLE":
            stack.append(tuple(self._above_mark()))
        elif name == "LIST":
            stack.append([_finished(value) for value in self._above_mark()])
        elif name in ("APPEND", "APPENDS"):
            values = self._pop(1) if name == "APPEND" else self._above_mark()
            if type(stack[-1]) is not list:
                raise RefusedPickle("something added to what is no list")
            stack[-1].extend(_finished(value) for value in values)
        elif name in ("SETITEM", "SETITEMS"):
            values = self._pop(2) if name == "SETITEM" else self._above_mark()
            if type(stack[-1]) is not dict:
                raise RefusedPickle("an entry set in what is no dictionary")
            for key, value in zip(values[::2], values[1::2], strict=True):
                stack[-1][_key(key)] = _finished(value)
        elif name in _STORES:
            self._memo[int(argument)] = stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif name in _FETCHES:
            stack.append(self._memo[int(argument)])
        elif name == "GLOBAL":
            # genops joins module and name by a space, which neither may contain.
            stack.append(self._function(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            stack.append(self._function(*self._pop(2)))
        elif name == "REDUCE":
            stack.append(_call(*self._pop(2)))
        elif name == "BUILD":
            _build(stack[-2], *self._pop(1))
        elif name == "BINPERSID" and self._stored is not None:
            stack.append(self._stored(*self._pop(1)))
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
        values: list[Any] = []
        while True:
            value = self._stack.pop()
            if value is _MARK:
                return values[::-1]
            values.append(value)

    def _function(self, module: Any, name: Any) -> Function:
        module, name = as_text(module), as_text(name)
        if (module, name) not in self._functions:
            raise RefusedPickle(f"the call of {on_one_line(module, 80)}.{on_one_line(name, 80)}")
        return self._functions[module, name]

    def _encode(self, text: Any, coding: Any) -> bytes:
        """How Python 3 writes bytes into a pickle that Python 2 can read."""
        if type(text) is not str or coding not in ("latin1", "latin-1"):
            raise RefusedPickle("a call of _codecs.encode for something other than bytes")
        # Each text is encoded once: together no more bytes than the file has.
        self._still_encoded -= len(text)
        if self._still_encoded < 0:
            raise RefusedPickle("one text encoded again and again")
        return text.encode("latin1")


def _key(value: Any) -> Any:
    # Of tuples that hold one another the hash alone would never end.
    if type(value) is not int and (type(value) not in (str, bytes) or len(value) > LONGEST_KEY):
        raise RefusedPickle("a key that is no short text or whole number")
    return value


def _call(function: Any, arguments: Any) -> Any:
    if type(function) is not Function or function.call is None or type(arguments) is not tuple:
        raise RefusedPickle("a call of what is no function")
    try:
        return function.call(*arguments)
    except TypeError:
        raise RefusedPickle(
            f"a call of {function.name} with other arguments than its own"
        ) from None


def _build(value: Any, state: Any) -> None:
    if isinstance(value, StandIn):
        value.set_state(state)
    elif type(value) is not dict or type(state) is not dict:
        raise RefusedPickle("a state set on what has none")
    # Attributes of a dictionary, which torch's have, are left out.


def _finished(value: Any) -> Any:
    """A value of the result, which no part of an object under construction may be."""
    if isinstance(value, StandIn) and not value.is_value():
        raise RefusedPickle("a function or type as a value, or an object without content")
    return value
