"""The files of one cell in its run folder: their paths, and how each is read and written."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from marginbench.errors import DamagedFile, UserError
from marginbench.experiments.cells import Cell
from marginbench.files import write_text_atomically
from marginbench.runs.result_file import read_result_file
from marginbench.runs.run_files import (
    ASIDE,
    as_json,
    is_number,
    read_failure_file,
    read_history_file,
    read_json,
)

SECONDS = ("seconds_of_last_attempt", "processor_seconds_of_last_attempt")
"""Of environment.json; earlier runs have "try" where these have "attempt"."""


class CellFiles:
    """The files of one cell.

    Args:
        suite_folder: ``RUNS/SUITE``.
        cell: resolved.
    """

    def __init__(self, suite_folder: Path, cell: Cell) -> None:
        self.cell = cell
        self.key = cell.key
        self.path = suite_folder / f"{cell.slug}-{self.key}"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint.pt"

    @property
    def evaluation(self) -> Path:
        return self.path / "evaluation.npz"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    def read_result(self) -> dict[str, Any] | None:
        """result.json, or None.

        Raises:
            DamagedFile: it does not read well, or is another cell's.
        """
        path = self.path / "result.json"
        return read_result_file(path, self.key) if os.path.lexists(path) else None

    def write_result(self, result: dict[str, Any]) -> None:
        """result.json, last of all files, and the end of any earlier failure."""
        write_text_atomically(self.path / "result.json", as_json(result, indent=2))
        self.forget_failure()

    def set_result_aside(self) -> None:
        """Let the cell count as not finished; its checkpoint stays.

        Raises:
            UserError: the folder cannot be written.
        """
        try:
            (self.path / "result.json").replace(self.path / ASIDE)
        except FileNotFoundError:
            return
        except OSError as error:
            raise UserError(f"{self.path} cannot be written: {error.strerror}") from error

    def put_result_back(self) -> None:
        """Undo :meth:`set_result_aside`, unless there is a new result."""
        if not (self.path / "result.json").exists():
            with contextlib.suppress(OSError):
                (self.path / ASIDE).replace(self.path / "result.json")

    def read_history(self) -> list[dict[str, Any]]:
        """:func:`read_history_file` of this folder."""
        return read_history_file(self.path / "history.jsonl")

    def write_history(self, rows: list[dict[str, Any]]) -> None:
        """All rows anew: the file is short, and thus never holds a line twice or in part."""
        text = "".join(as_json(row) for row in rows)
        write_text_atomically(self.path / "history.jsonl", text, durable=False)

    def write_environment(self, environment: dict[str, Any]) -> None:
        """environment.json: what may differ between two runs of the same cell."""
        text = as_json(environment, indent=2)
        write_text_atomically(self.path / "environment.json", text, durable=False)

    def read_environment(self) -> dict[str, Any]:
        """environment.json, or an empty mapping where it is missing or damaged."""
        try:
            content = read_json(self.path / "environment.json")
        except DamagedFile:
            return {}
        for name in SECONDS:
            if name not in content and name.replace("attempt", "try") in content:
                content[name] = content.pop(name.replace("attempt", "try"))
        return content if is_number(content.get(SECONDS[0], 0)) else {}

    def write_failure(self, error: str, traceback: str, *, final: bool = False) -> None:
        """failure.json: why the last attempt ended; ``final`` if another one would end likewise."""
        self.path.mkdir(parents=True, exist_ok=True)
        failure = {"error": error, "traceback": traceback, "final": final}
        write_text_atomically(self.path / "failure.json", as_json(failure, indent=2))

    def read_failure(self) -> dict[str, Any] | None:
        """failure.json, or None; a damaged one is a failure that is not final."""
        return read_failure_file(self.path / "failure.json")

    def forget_failure(self) -> None:
        """A new attempt begins: the last one's error is no longer the state."""
        (self.path / "failure.json").unlink(missing_ok=True)
