"""What ``report`` does, and ``run`` at its end: make the report, and print its tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from marginbench.command_line.live_display import make_console
from marginbench.command_line.live_report import report_while_running
from marginbench.command_line.printed_tables import print_table, printed
from marginbench.command_line.report_cells import ReportCells, print_damaged_files
from marginbench.command_line.suite_selection import SuiteSelection
from marginbench.command_line.terminal import command_line
from marginbench.errors import UserError
from marginbench.experiments.suites import Suite
from marginbench.files import no_empty_folders_on_error
from marginbench.reporting.report_state import (
    PrintedTable,
    fingerprint,
    forget,
    remember,
    still_good,
)
from marginbench.reporting.sections import Section, chosen_sections
from marginbench.runs.cell_status import CellStatus
from marginbench.runs.suite_runs import SuiteRun, check_writable
from marginbench.text import count

if TYPE_CHECKING:
    import pandas as pd

PRINTED = ("comparison-", "verification-accuracy-", "retrieval-")
"""How the names of the tables begin that the terminal shows too."""
PRINTED_OF_SEVERAL = ("ranks", "wins-draws-losses")


def report_suite(
    selection: SuiteSelection,
    *,
    sections: tuple[str, ...],
    against: str | None = None,
    compare: Path | None = None,
    every: float | None = None,
) -> int:
    """Write the report from what is there, compared with the head ``against`` if it is given.

    With ``compare`` it also shows what has changed since the runs below that folder; with ``every``
    it is written again as cells end, see
    :func:`marginbench.command_line.live_report.report_while_running`.

    Returns:
        Exit status: 0, or 1 if a cell is damaged or a section could not be made.

    Raises:
        UserError: as :func:`run_suite`, an unknown section, or a head that is not there.
    """
    if sections:
        chosen_sections(list(sections))
    suite_run = selection.open()
    before = None if compare is None else _open_before(selection, compare)

    def make(run: SuiteRun, statuses: list[CellStatus] | None, every: float | None) -> int:
        return show_report(
            make_console(quiet=every is not None),
            run,
            list(sections) or None,
            against=against,
            before=before,
            statuses=statuses,
            every=every,
        )

    with no_empty_folders_on_error(suite_run.folder):
        check_writable(suite_run.folder)
        if every is None:
            return make(suite_run, None, None)
        return report_while_running(selection, every, make)


def report_suites(
    selections: Sequence[SuiteSelection],
    *,
    sections: tuple[str, ...],
    against: str | None = None,
    compare: Path | None = None,
    every: float | None = None,
) -> int:
    """Write one report of several suites, into ``RUNS/A+B/report``; see :func:`report_suite`.

    Returns:
        Exit status: 0, or 1 if a cell is damaged or a section could not be made.

    Raises:
        UserError: see :func:`report_suite`; a suite that is given twice; ``every``.
    """
    if every is not None:
        raise UserError("--every is not allowed with several suites; allowed: with one")
    from marginbench.reporting.compared_tables import with_baseline
    from marginbench.reporting.page import write_report
    from marginbench.reporting.several_suites import together

    console = make_console()
    if sections:
        chosen_sections(list(sections))
    runs = {selection.suite: selection.open() for selection in selections}
    names = [run.suite.name for run in runs.values()]
    if len(set(names)) < len(selections):
        raise UserError(f"suites {', '.join(s.suite for s in selections)}: one is given twice")
    cells = [ReportCells.of(run) for run in runs.values()]
    frame = together({one.run.suite.name: one.frame() for one in cells})
    more = []
    if compare is not None:
        before = [ReportCells.of(_open_before(one, compare)) for one in selections]
        earlier = together({one.run.suite.name: one.frame() for one in before})
        more.append(_changes(earlier, frame, str(compare)))
        cells += before
    if against is not None:
        frame = with_baseline(frame, against)
    first = next(iter(runs.values()))
    suite = Suite(
        name=", ".join(names),
        description="; ".join(run.suite.description for run in runs.values()),
        needs="",
        seeds=first.suite.seeds,
        baseline=first.suite.baseline,
        sections=None,
        function=lambda seeds: [],
    )
    folder = first.folder.with_name("+".join(run.folder.name for run in runs.values())) / "report"
    check_writable(folder)
    notes = [note for one in cells for note in [*one.notes(), *_left_notes(one.run)]]
    report = write_report(frame, suite, folder, list(sections) or None, notes, command_line(), more)
    for table in report.tables:
        if table.name.startswith((*PRINTED, *PRINTED_OF_SEVERAL)):
            print_table(console, printed(table))
    damaged = print_damaged_files(console, cells)
    _print_notes(console, notes)
    for name, why in report.failed_sections:
        console.print(f"[red]section {name} could not be made[/]: {escape(why)}", highlight=False)
    page = escape(str(report.page))
    console.print(f"\nreport: {page}", highlight=False, soft_wrap=True)
    return 1 if report.failed_sections or damaged else 0


def show_report(
    console: Console,
    suite_run: SuiteRun,
    sections: list[str] | None,
    *,
    keep: bool = False,
    against: str | None = None,
    before: SuiteRun | None = None,
    statuses: list[CellStatus] | None = None,
    every: float | None = None,
) -> int:
    """Make the report and print its comparison tables, and what is wrong with it.

    Args:
        console: where to print.
        suite_run: the cells, in whatever state.
        sections: see :func:`marginbench.reporting.page.write_report`.
        keep: leave a report alone that would come out the same.
        against: the head that the others are compared with; None for the suite's baseline.
        before: the same cells in another runs folder, to be shown side by side.
        statuses: of the cells, where they were looked at just now.
        every: see :func:`marginbench.reporting.page.write_report`.

    Returns:
        Exit status: 0, or 1 if a cell is damaged, a section could not be made, or the report could
        not be written.
    """
    folder = suite_run.report_folder
    now = ReportCells.of(suite_run, statuses)
    shown = [now] if before is None else [now, ReportCells.of(before)]
    notes = [*now.missing(), *now.stale(), *_left_notes(suite_run)]
    notes += [note for one in shown[1:] for note in one.notes()]
    made_from = fingerprint(suite_run, now.statuses, sections, against)
    kept = still_good(folder, made_from) if keep else None
    failed: list[tuple[str, str]] = []
    if kept is None:
        try:
            # A page with more than the suite's own cells, or that is written again, is not kept.
            own = made_from if before is None and not every else None
            tables, failed = _make_report(shown, sections, own, notes, against, every)
        except OSError as error:
            path = error.filename2 or error.filename or folder
            reason = error.strerror or error
            console.print(
                f"[red]the report cannot be written[/]: {escape(str(path))}: {reason}",
                highlight=False,
            )
            return 1
    else:
        tables = kept
    for table in tables:
        print_table(console, table)
    damaged = print_damaged_files(console, shown)
    _print_notes(console, notes)
    for name, why in failed:
        console.print(f"[red]section {name} could not be made[/]: {escape(why)}", highlight=False)
    remark = "" if kept is None else "; up to date, `marginbench report` makes it anew"
    page = escape(str(folder / "index.html"))
    console.print(f"\nreport: {page}{remark}", highlight=False, soft_wrap=True)
    return 1 if failed or damaged else 0


def _print_notes(console: Console, notes: list[str]) -> None:
    for note in notes:
        console.print(f"[yellow]note[/]: {escape(note)}", highlight=False)


def _left_notes(suite_run: SuiteRun) -> list[str]:
    """A sentence on the cells of the manifest that the report does not show."""
    if not suite_run.left:
        return []
    number = count(len(suite_run.left), "cell")
    return [
        f"not shown: {number} of the manifest that left the suite, or came by --head or --plugin"
    ]


def _open_before(selection: SuiteSelection, compare: Path) -> SuiteRun:
    """The same cells in another runs folder.

    Raises:
        UserError: they are not there.
    """
    before = replace(selection, runs=compare).open()
    if not before.folder.is_dir():
        raise UserError(f"--compare {str(compare)!r}: there is no {before.folder.name!r} in it")
    return before


def _changes(before: pd.DataFrame, after: pd.DataFrame, name: str) -> Section:
    from marginbench.reporting.before_after import changes_content

    content = changes_content(before, after, name)
    return Section("changes", "Before and after", 6, lambda frame: content)


def _make_report(
    cells: list[ReportCells],
    sections: list[str] | None,
    made_from: str | None,
    notes: list[str],
    against: str | None,
    every: float | None,
) -> tuple[list[PrintedTable], list[tuple[str, str]]]:
    """The comparison tables, and the sections that could not be made, with the reason.

    ``cells`` are the suite's, and those before a change if there are any.
    """
    from marginbench.reporting.compared_tables import with_baseline
    from marginbench.reporting.page import write_report

    suite_run = cells[0].run
    folder = suite_run.report_folder
    frame, *earlier = [one.frame() for one in cells]
    more = [_changes(old, frame, str(cells[1].run.folder)) for old in earlier]
    if against is not None:
        frame = with_baseline(frame, against)
    forget(folder)
    report = write_report(
        frame, suite_run.suite, folder, sections, notes, command_line(), more, every
    )
    shown = [table for table in report.tables if table.name.startswith(PRINTED)]
    if made_from is not None and not report.failed_sections:
        remember(folder, made_from, {table.name: table.caption for table in shown})
    return [printed(table) for table in shown], report.failed_sections
