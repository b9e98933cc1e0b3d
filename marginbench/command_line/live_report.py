"""What ``report --every`` does: write the page again whenever a cell has ended."""

from __future__ import annotations

import time
from collections.abc import Callable

from marginbench.command_line.live_display import make_console
from marginbench.command_line.suite_selection import SuiteSelection
from marginbench.files import write_text_atomically
from marginbench.processes import in_parts
from marginbench.runs.cell_status import FINISHED, CellStatus
from marginbench.runs.run_folder import RunFolder
from marginbench.runs.suite_runs import SuiteRun
from marginbench.text import count

_SHARE = 4
"""At most one part in four of the time goes into making pages."""

MakePage = Callable[[SuiteRun, list[CellStatus], float | None], int]


def report_while_running(selection: SuiteSelection, every: float, make: MakePage) -> int:
    """Write the report until every cell is finished, or until Ctrl-C.

    Args:
        selection: of the cells; a search and a plan add cells while it runs.
        every: seconds between two readings of the run folders.
        make: writes the report, given the suite, its cells' states and the seconds after which the
            page loads itself again, or None for a page that does not; returns the exit status.

    Returns:
        Exit status: that of the last report; 0 after Ctrl-C.

    Raises:
        UserError: see :meth:`SuiteSelection.open`.
    """
    console = make_console()
    suite_run = selection.open()
    shown = None
    try:
        while True:
            statuses = in_parts(RunFolder.status, suite_run.runs)
            finished = sum(status.state in FINISHED for status in statuses)
            if finished == len(statuses):
                return make(suite_run, statuses, None)
            seconds = 0.0
            if shown != (shown := [_in_page(status) for status in statuses]):
                start = time.monotonic()
                make(suite_run, statuses, every)
                seconds = time.monotonic() - start
                cells = count(len(statuses), "cell")
                console.print(f"{finished} of {cells} finished; Ctrl-C ends this", highlight=False)
            time.sleep(max(every, (_SHARE - 1) * seconds))
            suite_run = selection.open()
    except KeyboardInterrupt:
        page = suite_run.report_folder / "index.html"
        from marginbench.reporting.page import without_refresh

        if page.exists():
            write_text_atomically(page, without_refresh(page.read_text(encoding="utf-8")))
        return 0


def _in_page(status: CellStatus) -> tuple[str, str]:
    """What a page has of a cell: not how far it is while it runs."""
    ended = status.state in FINISHED or status.message
    return (status.state.value, status.message) if ended else ("", "")
