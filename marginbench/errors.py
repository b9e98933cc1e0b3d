"""The errors that are a user's to mend, as distinct from faults of the program."""

from __future__ import annotations

from pathlib import Path


class UserError(Exception):
    """Something that the user can put right.

    The message names the thing (file, field, value) and what is allowed; the command line prints
    it without a traceback and exits with a non-zero status.
    """


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
