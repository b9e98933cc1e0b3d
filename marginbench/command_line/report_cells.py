"""What a report is made from: the cells of a suite and their states, whichever report it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from marginbench.command_line.suite_options import typed_suite
from marginbench.processes import in_parts
from marginbench.runs.cell_status import FINISHED, CellStatus, State
from marginbench.runs.run_folder import RunFolder
from marginbench.runs.stale_results import stale_notes
from marginbench.runs.suite_runs import SuiteRun
from marginbench.text import count

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class ReportCells:
    """A suite and the states of its cells, looked at once.

    Attributes:
        run: the suite.
        statuses: of its cells, in their order.
    """

    run: SuiteRun
    statuses: list[CellStatus]

    @classmethod
    def of(cls, run: SuiteRun, statuses: list[CellStatus] | None = None) -> ReportCells:
        """Look at the cells, unless their states are known."""
        return cls(run, statuses or in_parts(RunFolder.status, run.runs))

    def frame(self) -> pd.DataFrame:
        """See :func:`marginbench.runs.results.results_of`."""
        from marginbench.reporting.next_command import TYPED
        from marginbench.runs.results import results_of

        known = zip(self.run.runs, self.statuses, strict=True)
        frame = results_of(self.run, {run.key: status for run, status in known})
        if words := typed_suite():
            frame.attrs[TYPED] = {self.run.suite.name: words}
        return frame

    @property
    def damaged(self) -> list[str]:
        """A message for each damaged cell, which names the file."""
        return [one.message for one in self.statuses if one.state == State.DAMAGED]

    def missing(self) -> list[str]:
        """A sentence on the cells without a result; none if there are none."""
        states = Counter(one.state for one in self.statuses if one.state not in FINISHED)
        if not states:
            return []
        kinds = ", ".join(f"{number} {state}" for state, number in states.items())
        cells = count(len(self.statuses), "cell")
        return [f"{self.run.folder}: {states.total()} of {cells} without a result: {kinds}"]

    def stale(self) -> list[str]:
        """:func:`marginbench.runs.stale_results.stale_notes` of the cells."""
        return stale_notes(zip(self.run.runs, self.statuses, strict=True))

    def notes(self) -> list[str]:
        """All that a report of several folders says of this one."""
        return [*self.missing(), *(f"{self.run.folder}: {note}" for note in self.stale())]


def print_damaged_files(console: Console, cells: Iterable[ReportCells]) -> bool:
    """Name each damaged file once; whether there is one."""
    messages = dict.fromkeys(message for one in cells for message in one.damaged)
    for message in messages:
        console.print(f"[red]damaged[/]: {escape(message)}", highlight=False, soft_wrap=True)
    return bool(messages)
