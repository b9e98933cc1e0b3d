"""What stands in for the functions, types and objects that a pickle names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


class RefusedPickle(Exception):
    """A pickle that asks for what is not admitted, or is damaged. Nothing of it was run."""


class StandIn:
    """What a pickle may have instead of a function, a type or an object."""

    def is_value(self) -> bool:
        """Whether it may be part of the result; else it may only be handed to functions."""
        return False

    def set_state(self, state: Any) -> None:
        """Fill in what the pickled class leaves to a second step.

        Raises:
            RefusedPickle: it has no such step, or the state is not as its class writes it.
        """
        raise RefusedPickle("a state set on what has none")


@dataclass(frozen=True)
class Function(StandIn):
    """A name that a pickle may use, and what stands in for it; None for what is not called."""

    name: str
    call: Callable[..., Any] | None = None


Functions = Mapping[tuple[str, str], Function]
"""By module and name."""


def as_text(value: Any) -> str:
    """A name: text, or bytes of Python 2.

    Raises:
        RefusedPickle: it is neither.
    """
    if type(value) is bytes:
        return value.decode("latin1")
    if type(value) is not str:
        raise RefusedPickle("something other than text as a name")
    return value


def on_one_line(text: str, length: int) -> str:
    """The beginning of a text on one line, control characters escaped."""
    return repr(text[:length])[1:-1]
