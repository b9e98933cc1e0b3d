"""The states that a cell can be in, its job included, and those of a suite's cells in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from marginbench.dispatch.slurm.jobs import Job
from marginbench.dispatch.slurm.submission import Submission
from marginbench.runs.cell_status import CellStatus
from marginbench.runs.run_folder import RunFolder
from marginbench.text import count


class CellState(StrEnum):
    """What has become of a cell, its job included."""

    DONE = "done"
    DIVERGED = "diverged"
    RUNNING = "running"
    STARTING = "starting"
    PENDING = "pending"
    REQUEUED = "requeued"
    REMOTE = "remote"
    FAILED = "failed"
    DAMAGED = "damaged"
    LOST = "lost"
    CANCELLED = "cancelled"
    STOPPED = "stopped"
    NOT_SUBMITTED = "not submitted"
    NOT_STARTED = "not started"


LEFT = "left the suite"
# What may still change without a further command.
ACTIVE = (
    CellState.STARTING,
    CellState.PENDING,
    CellState.REQUEUED,
    CellState.RUNNING,
    CellState.REMOTE,
)


@dataclass(frozen=True)
class CellOverview:
    """A cell and its state.

    Attributes:
        folder: its run folder.
        state: see :class:`CellState`.
        status: what the run folder says.
        job: the last one that it was submitted in, if any.
        note: the error, the reason of waiting, who trains it.
        requeues: how often its job was requeued.
        remote: whose queue its job is in, "cluster NAME" or "host NAME"; "" if this machine's.
    """

    folder: RunFolder
    state: CellState
    status: CellStatus
    job: Job | None
    note: str = ""
    requeues: int = 0
    remote: str = ""


@dataclass(frozen=True)
class SuiteOverview:
    """All cells of a suite at one moment.

    Attributes:
        asked: those asked for, in the suite's order.
        further, left: submitted besides, as :class:`marginbench.runs.suite_runs.SuiteRun` has them.
        jobs: all that were ever submitted, whatever cells they hold, the oldest first.
        submissions: all there are, the oldest first.
        queue_error: why the queue could not be read, or "".
        thorough: whether the files of each cell were read whole.
    """

    asked: list[CellOverview]
    further: list[CellOverview]
    left: list[CellOverview]
    jobs: list[Job]
    submissions: list[Submission]
    queue_error: str
    thorough: bool

    @property
    def cells(self) -> list[CellOverview]:
        """The suite's: those asked for, and those of further seeds that were submitted."""
        return self.asked + self.further

    @property
    def known(self) -> list[CellOverview]:
        """The suite's, and those that have left it."""
        return self.cells + self.left


def describe_states(cells: Iterable[CellOverview]) -> str:
    """How many cells there are of each state: "3 done, 1 pending"."""
    numbers = Counter(cell.state for cell in cells)
    return ", ".join(f"{numbers[state]} {state}" for state in CellState if numbers[state])


def describe_other_cells(overview: SuiteOverview) -> list[str]:
    """Of cells that have left the suite, and of those that another cluster has: what to do."""
    lines = []
    if overview.left:
        number = count(len(overview.left), "cell")
        line = f"{LEFT} since submission, or came by --head or --plugin: {number}: "
        line += describe_states(overview.left)
        if any(cell.state in ACTIVE for cell in overview.left):
            line += "; `cancel` with their names, which `status` lists, ends them"
        lines.append(line)
    remote = Counter(cell.remote for cell in overview.cells if cell.state == CellState.REMOTE)
    return lines + [
        f"{count(number, 'cell')} submitted to {name}, whose jobs are not seen from here: ask "
        "there; to train them here instead, `cancel` them and submit again"
        for name, number in remote.items()
    ]
