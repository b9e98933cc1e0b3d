"""The entry points of installed packages, looked for once."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points


@cache
def entry_points_of(group: str) -> tuple[EntryPoint, ...]:
    """A group's entry points by name.

    They are those of the process's start: for each answer the metadata of every installed package
    is read, 10 ms.
    """
    return tuple(sorted(entry_points(group=group), key=lambda point: point.name))
