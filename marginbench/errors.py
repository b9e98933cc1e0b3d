"""The errors that are a user's to mend, as distinct from faults of the program."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


class UserError(Exception):
    """Something that the user can put right.

    The message names the thing (file, field, value) and what is allowed; the command line prints
    it without a traceback and exits with a non-zero status.
    """


def each(
    function: Callable[[Item], Made], items: Iterable[Item], what: str, over: Callable = map
) -> list[Made]:
    """A function of each item; one error tells of all items that it refuses.

    Args:
        function: may raise a UserError.
        items: its arguments.
        what: they are, for the message: "images".
        over: ``map``, or that of a pool.

    Raises:
        UserError: their number and the first three errors; a single one as it stands.
    """

    def attempt(item: Item) -> Made | UserError:
        try:
            return function(item)
        except UserError as error:
            return error

    made = list(over(attempt, items))
    refused = [one for one in made if isinstance(one, UserError)]
    if len(refused) > 1:
        first = "; ".join(map(str, refused[:3]))
        raise UserError(f"{len(refused):,} {what} are refused, the first of them: {first}")
    if refused:
        raise refused[0]
    return made


class UnusableDevice(UserError):
    """What this machine lacks or what is broken in it: no cell that is trained here is at fault."""


def one_line(error: Exception) -> str:
    """What an error says, in one line: a user's error as it stands, another one with its type."""
    if isinstance(error, UserError):
        return str(error)
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


class DamagedFile(UserError):
    """A file of a run folder that is there but does not read well."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} is damaged: {reason}")
        self.path = path
        self.reason = reason
