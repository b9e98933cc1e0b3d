"""What has become of a cell: its states, and what can be said of each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from marginbench.runs.cell_files import CellFiles
from marginbench.runs.lease_state import LeaseState


class State(StrEnum):
    """What has become of a cell."""

    DONE = "done"
    DIVERGED = "diverged"
    RUNNING = "running"
    FAILED = "failed"
    DAMAGED = "damaged"
    STOPPED = "stopped"
    NOT_STARTED = "not started"


Folder = TypeVar("Folder", bound=CellFiles)

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


def finished_status(result: dict[str, Any]) -> CellStatus:
    """The status that a result.json stands for."""
    state = State.DIVERGED if result["outcome"] == "diverged" else State.DONE
    return CellStatus(state, result["reason"], result["iteration"], result)


def running_status(lease: LeaseState) -> CellStatus:
    """The status that a living lease stands for."""
    return CellStatus(State.RUNNING, lease.owner_text(), known_iteration(lease), lease=lease)


def known_iteration(lease: LeaseState) -> int:
    """How far the run is, as its owner last recorded."""
    return int(lease.progress.get("iteration", 0))


def failures_alike(
    failed: Iterable[tuple[Folder, CellStatus]],
) -> list[list[tuple[Folder, CellStatus]]]:
    """Cells by state and message, in the order of the first of each; their own paths aside."""
    found: dict[tuple[str, str], list[tuple[Folder, CellStatus]]] = {}
    for folder, status in failed:
        message = status.message.replace(str(folder.path), "")
        found.setdefault((status.state, message), []).append((folder, status))
    return list(found.values())
