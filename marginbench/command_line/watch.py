"""What ``watch`` does: the report in a browser, made anew when a cell has ended."""

from __future__ import annotations

import time
from collections import Counter

from rich.markup import escape

from marginbench.command_line.live_display import make_console
from marginbench.command_line.suite_selection import SuiteSelection
from marginbench.command_line.terminal import command_line
from marginbench.reporting.live_server import LiveServer
from marginbench.reporting.report_state import forget
from marginbench.runs.cell_status import FINISHED, CellStatus
from marginbench.runs.suite_runs import SuiteRun, check_writable

_SHARE = 4
"""Of the time at most one part in so many is spent on making pages."""


def watch_suite(selection: SuiteSelection, *, port: int, every: float) -> int:
    """Serve the report until Ctrl-C.

    Args:
        selection: of cells.
        port: of 127.0.0.1.
        every: seconds between two looks at the run folders.

    Returns:
        Exit status: 0.

    Raises:
        UserError: as :func:`marginbench.command_line.report.report_suite`, or a port in use.
    """
    console = make_console()
    suite_run = selection.open()
    check_writable(suite_run.folder)
    server = LiveServer(suite_run.folder, port)
    console.print(f"{server.address}   Ctrl-C ends it", highlight=False)
    shown = None
    try:
        while True:
            statuses = [folder.status() for folder in suite_run.runs]
            server.told = _told(statuses)
            seconds = 0.0
            if shown != (ended := _ended(statuses)):
                start = time.monotonic()
                for name, why in make_page(suite_run):
                    console.print(f"[red]section {name} could not be made[/]: {escape(why)}")
                shown = ended
                server.reload()
                seconds = time.monotonic() - start
            time.sleep(max(every, (_SHARE - 1) * seconds))
    except KeyboardInterrupt:
        return 0
    finally:
        server.close()


def make_page(suite_run: SuiteRun) -> list[tuple[str, str]]:
    """Write the suite's report from what is there; the sections that failed, with the reason."""
    from marginbench.reporting.page import write_report
    from marginbench.runs.results import results

    forget(suite_run.report_folder)
    frame = results(suite_run)
    report = write_report(frame, suite_run.suite, suite_run.report_folder, command=command_line())
    return report.failed_sections


def _told(statuses: list[CellStatus]) -> str:
    states = Counter(status.state.value for status in statuses)
    return ", ".join(f"{number} {state}" for state, number in states.most_common())


def _ended(statuses: list[CellStatus]) -> list[str]:
    """What the page is made of: not how far the running cells are."""
    return [s.state.value if s.state in FINISHED or s.message else "" for s in statuses]
