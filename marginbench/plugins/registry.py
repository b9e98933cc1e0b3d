"""Named things that plug-ins add: one registry for each kind (heads, suites, sections, ...)."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from marginbench.errors import UserError
from marginbench.text import quoted

Entry = TypeVar("Entry")

# Names become parts of file names, several of them in one.
NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9+.-]{0,59}")


def check_name(kind: str, name: str) -> None:
    """Make sure that something may be called so.

    Args:
        kind: what is called so, for the message ("head").
        name: lower case, of letters, digits, "-", "+" and ".", at most 60 characters.

    Raises:
        UserError: the name is malformed.
    """
    if not isinstance(name, str) or not NAME_PATTERN.fullmatch(name):
        raise UserError(
            f"{kind} name {quoted(name)} is not allowed: lower-case letters, digits, '-', '+' "
            "and '.' are, the first character is a letter or a digit, and there are at most 60"
        )


class Registry(Generic[Entry]):
    """A mapping from names to entries that refuses a name taken twice.

    Args:
        kind: what an entry is called in messages, in the singular ("head").
        discover: called before every look-up; loads the plug-ins that add entries.
    """

    def __init__(self, kind: str, discover: Callable[[], None] = lambda: None) -> None:
        self.kind = kind
        self._discover = discover
        self._entries: dict[str, Entry] = {}
        self._origins: dict[str, str] = {}

    def add(self, name: str, entry: Entry, origin: str) -> None:
        """Add an entry.

        Args:
            name: see :func:`check_name`.
            origin: where the entry was defined (module and name), for messages.

        Raises:
            UserError: the name is malformed, or taken by an entry of another origin.
        """
        check_name(self.kind, name)
        if name in self._entries and self._origins[name] != origin:
            raise UserError(
                f"{self.kind} {name!r} is registered twice: by {self._origins[name]} and by "
                f"{origin}; give one of them another name"
            )
        self._entries[name] = entry
        self._origins[name] = origin

    def get(self, name: str) -> Entry:
        """The entry of that name.

        Raises:
            UserError: there is none; the message lists those that there are.
        """
        self._discover()
        if name not in self._entries:
            close = difflib.get_close_matches(name, self._entries, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise UserError(
                f"unknown {self.kind} {quoted(name)}{hint}; there are: "
                + (", ".join(sorted(self._entries)) or "none")
            )
        return self._entries[name]

    @staticmethod
    def definition(thing: Callable[..., object]) -> str:
        """Where a class or function was defined: "Name in FILE, line N" or "module.Name"."""
        name = f"{thing.__module__}.{thing.__qualname__}"
        if not thing.__module__.startswith("marginbench_plugin_"):
            return name
        try:
            return f"{thing.__qualname__} in {inspect.getsourcefile(thing)}"
        except TypeError:
            return name

    def origin(self, name: str) -> str:
        """Where the entry of that name was defined."""
        self.get(name)
        return self._origins[name]

    def names(self) -> list[str]:
        """All names, sorted."""
        self._discover()
        return sorted(self._entries)

    def __iter__(self) -> Iterator[tuple[str, Entry]]:
        return ((name, self._entries[name]) for name in self.names())

    def __contains__(self, name: object) -> bool:
        self._discover()
        return name in self._entries
