"""The run folder: one per cell, ``RUNS/SUITE/SLUG-KEY/``, and what its files say.

``cell.json`` what is run; ``history.jsonl`` the errors along the way; ``checkpoint.pt`` where a run
goes on; ``evaluation.npz`` what the figures need; ``environment.json`` where, when and how long;
``failure.json`` the last error; ``tries.jsonl`` the tries on a cluster; ``log.txt`` the run's
output; ``result.json``, written last: a cell is done if and only if it is there and reads well.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from marginbench.array_archives import check_arrays, damage_named
from marginbench.atomic_files import write_text_atomically
from marginbench.cells import Cell, cell_from_json
from marginbench.errors import DamagedFile, UserError
from marginbench.lease import LeaseState, read_lease
from marginbench.run_files import as_json, read_history_file, read_json, read_text

RESULT_FIELDS = {"key", "outcome", "reason", "iteration", "train_error", "test_error", "device"}
ASIDE = "result-of-other-code.json"
FILES = (
    "result.json",
    ASIDE,
    "checkpoint.pt",
    "history.jsonl",
    "evaluation.npz",
    "environment.json",
    "failure.json",
    "tries.jsonl",
    "cell.json",
)


class State(StrEnum):
    """What has become of a cell."""

    DONE = "done"
    DIVERGED = "diverged"
    RUNNING = "running"
    FAILED = "failed"
    DAMAGED = "damaged"
    STOPPED = "stopped"
    NOT_STARTED = "not started"


FINISHED = (State.DONE, State.DIVERGED)


@dataclass(frozen=True)
class CellStatus:
    """A cell's state and what can be said of it.

    Attributes:
        state: see :class:`State`; "stopped" is a run that was interrupted and will go on.
        message: the last error, the reason of a divergence, or who runs it.
        iteration: how far it is, as far as known.
        result: the content of result.json, of a finished cell.
        lease: of a running cell.
    """

    state: State
    message: str = ""
    iteration: int = 0
    result: dict[str, Any] | None = None
    lease: LeaseState | None = None


class RunFolder:
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

    def create(self) -> None:
        """Make the folder and its cell.json, if they are not there.

        Raises:
            UserError: the folder cannot be written.
            DamagedFile: its cell.json is another cell's, or does not read.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not (self.path / "cell.json").exists():
                write_text_atomically(self.path / "cell.json", self.cell.to_json())
        except OSError as error:
            raise UserError(f"{self.path} cannot be written: {error.strerror}") from error
        self.check_cell()

    def clear(self) -> None:
        """Remove what an earlier run left, lease and log excepted."""
        for name in FILES:
            (self.path / name).unlink(missing_ok=True)

    def forget_failure(self) -> None:
        """A new try begins: the last one's error is no longer the state."""
        (self.path / "failure.json").unlink(missing_ok=True)

    def check_cell(self) -> None:
        """Make sure that cell.json is this cell's.

        Raises:
            DamagedFile: it does not read, or is another cell's.
        """
        path = self.path / "cell.json"
        try:
            key = cell_from_json(read_text(path)).key
        except DamagedFile:
            raise
        except UserError as error:
            raise DamagedFile(path, str(error)) from None
        if key != self.key:
            raise DamagedFile(path, f"it holds the cell {key}, its folder is that of {self.key}")

    def status(self) -> CellStatus:
        """What has become of the cell. Never raises: a damaged folder is a state."""
        if not self.path.is_dir():
            return CellStatus(State.NOT_STARTED)
        stored = self.stored_status()
        if stored.state in FINISHED or stored.state == State.DAMAGED:
            return stored
        try:
            lease = read_lease(self.path)
        except OSError as error:
            return CellStatus(State.DAMAGED, f"{self.path} cannot be read: {error.strerror}")
        if lease is not None and lease.alive:
            return running_status(lease)
        return stored if lease is None else replace(stored, iteration=_iteration(lease))

    def stored_status(self) -> CellStatus:
        """The state as the files have it, whoever may be training now."""
        try:
            result = self.read_result()
            if (self.path / "cell.json").exists() or result is not None:
                self.check_cell()
            if result is not None:
                self.check_history(result)
                self.check_evaluation()
        except DamagedFile as error:
            return CellStatus(State.DAMAGED, str(error))
        except OSError as error:
            return CellStatus(State.DAMAGED, f"{self.path} cannot be read: {error.strerror}")
        if result is not None:
            return finished_status(result)
        failure = self.read_failure()
        if failure is not None:
            return CellStatus(State.FAILED, failure["error"])
        return CellStatus(State.STOPPED if self.checkpoint.exists() else State.NOT_STARTED)

    def read_result(self) -> dict[str, Any] | None:
        """result.json, or None.

        Raises:
            DamagedFile: it does not read well, or is another cell's.
        """
        path = self.path / "result.json"
        if not path.exists():
            return None
        result = read_json(path)
        missing = RESULT_FIELDS - set(result)
        if missing:
            raise DamagedFile(path, f"the fields {', '.join(sorted(missing))} are missing")
        if result["key"] != self.key:
            raise DamagedFile(path, f"it is the result of the cell {result['key']!r}")
        if result["outcome"] not in ("finished", "diverged"):
            raise DamagedFile(
                path, f"outcome = {result['outcome']!r}; allowed: 'finished' or 'diverged'"
            )
        for name in ("train_error", "test_error"):
            value = result[name]
            untested = name == "test_error" and result.get("test_images") == 0
            if value is None and untested:
                continue
            if not isinstance(value, (int, float)) or not 0 <= value <= 1:
                raise DamagedFile(path, f"{name} = {value!r}; allowed: number from 0 to 1")
        return result

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

    def check_history(self, result: dict[str, Any]) -> None:
        """Make sure that the history reads and ends where the result does.

        Raises:
            DamagedFile: it does not.
        """
        rows = self.read_history()
        last = rows[-1]["iteration"] if rows else 0
        if last != result["iteration"]:
            raise DamagedFile(
                self.path / "history.jsonl",
                f"it ends at iteration {last}, the result at {result['iteration']}",
            )

    def write_history(self, rows: list[dict[str, Any]]) -> None:
        """All rows anew: the file is short, and thus never holds a line twice or in part."""
        text = "".join(as_json(row) for row in rows)
        write_text_atomically(self.path / "history.jsonl", text, durable=False)

    def check_evaluation(self) -> None:
        """Make sure that evaluation.npz is whole.

        Raises:
            DamagedFile: it is not.
        """
        with damage_named(self.evaluation):
            check_arrays(self.evaluation)

    def write_environment(self, environment: dict[str, Any]) -> None:
        """environment.json: what may differ between two runs of the same cell."""
        text = as_json(environment, indent=2)
        write_text_atomically(self.path / "environment.json", text, durable=False)

    def read_environment(self) -> dict[str, Any]:
        """environment.json, or an empty mapping where it is missing or damaged."""
        try:
            return read_json(self.path / "environment.json")
        except (DamagedFile, OSError):
            return {}

    def write_failure(self, error: str, traceback: str, *, final: bool = False) -> None:
        """failure.json: why the last try ended; ``final`` if another try would end likewise."""
        self.path.mkdir(parents=True, exist_ok=True)
        failure = {"error": error, "traceback": traceback, "final": final}
        write_text_atomically(self.path / "failure.json", as_json(failure, indent=2))

    def read_failure(self) -> dict[str, Any] | None:
        """failure.json, or None."""
        path = self.path / "failure.json"
        if not path.exists():
            return None
        try:
            return {"error": "unknown", "traceback": "", "final": False, **read_json(path)}
        except DamagedFile as error:
            return {"error": str(error), "traceback": "", "final": False}


def finished_status(result: dict[str, Any]) -> CellStatus:
    """The status that a result.json stands for."""
    state = State.DIVERGED if result["outcome"] == "diverged" else State.DONE
    return CellStatus(state, result["reason"], result["iteration"], result)


def running_status(lease: LeaseState) -> CellStatus:
    """The status that a living lease stands for."""
    return CellStatus(State.RUNNING, lease.owner_text(), _iteration(lease), lease=lease)


def _iteration(lease: LeaseState) -> int:
    return int(lease.progress.get("iteration", 0))
