"""What ``status`` prints: every cell, or of thousands those worth a line, and the counts."""

from __future__ import annotations

import time
from dataclasses import replace

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from marginbench.command_line.live_display import STYLES, make_console
from marginbench.command_line.search_messages import search_notes
from marginbench.command_line.suite_selection import SuiteSelection
from marginbench.dispatch.slurm.cell_states import (
    ACTIVE,
    CellOverview,
    CellState,
    SuiteOverview,
    describe_other_cells,
    describe_states,
)
from marginbench.dispatch.slurm.inspection import inspect_suite
from marginbench.runs import attempts
from marginbench.runs.cell_status import CellStatus, State, failures_alike
from marginbench.runs.code_version import changes, code_version
from marginbench.runs.conditions import differences
from marginbench.runs.stale_results import code_notes
from marginbench.runs.suite_runs import SuiteRun
from marginbench.text import count, duration

MANY = 200
BAD = (CellState.FAILED, CellState.DAMAGED, CellState.LOST)
_SAID_ONCE = (State.FAILED, State.DAMAGED)
# Of thousands of cells, these come first.
_FIRST = (*BAD, CellState.RUNNING, CellState.STARTING, CellState.REQUEUED, CellState.STOPPED)


def show_status(
    selection: SuiteSelection, *, watch: float | None = None, every_cell: bool = False
) -> int:
    """Print the cells and their states; with ``watch`` every so many seconds, until all have ended.

    Returns:
        Exit status: 0, or 1 if a cell failed, is damaged or was lost.

    Raises:
        UserError: see :func:`marginbench.runs.suite_runs.open_suite`.
    """
    console = make_console()
    suite_run = selection.open(gone_heads=True)
    overview = inspect_suite(suite_run)
    if watch is None:
        console.print(status_table(suite_run, overview, every_cell))
    else:
        overview = _watch(console, suite_run, overview, every_cell, watch)
    return 1 if any(cell.state in BAD for cell in overview.cells) else 0


def status_table(
    suite_run: SuiteRun, overview: SuiteOverview, every_cell: bool = False
) -> RenderableType:
    """An overview for the terminal: a table of cells, the counts, and notes.

    Of cells that have left the suite, those that wait or run are in the table.
    """
    shown = overview.cells + [cell for cell in overview.left if cell.state in ACTIVE]
    left_out = 0
    if len(shown) > MANY and not every_cell:
        first = [cell for cell in shown if cell.state in _FIRST]
        first.sort(key=lambda cell: _FIRST.index(cell.state))
        left_out = len(shown) - len(first[:MANY])
        shown = first[:MANY]
    apart = differences(cell.folder.cell for cell in overview.cells)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("cell", "setting", "state", "iteration", ""):
        table.add_column(column, overflow="fold")
    bad = ((cell.folder, replace(cell.status, message=cell.note)) for cell in shown if cell.note)
    alike = [
        group for group in failures_alike(bad) if len(group) > 1 and group[0][1].state in _SAID_ONCE
    ]
    said = {folder.key for group in alike for folder, _ in group}
    for cell in shown:
        status = cell.status if overview.thorough else cell.folder.status()
        style = STYLES.get(cell.state, "default")
        table.add_row(
            cell.folder.path.name,
            escape(", ".join(filter(None, [cell.folder.cell.setting, apart.get(cell.folder.key)]))),
            f"[{style}]{cell.state}[/]",
            f"{status.iteration}/{cell.folder.cell.schedule.iterations}",
            "" if cell.folder.key in said else escape(_note(cell)),
        )
    parts: list[RenderableType] = [table] if shown else []
    if left_out:
        parts.append(Text(f"{count(left_out, 'cell')} not listed; --all lists every one"))
    number = count(len(overview.cells), "cell")
    parts.append(Text(": ".join(filter(None, [number, describe_states(overview.cells)]))))
    for group in alike:
        folder, status = group[0]
        words = f"{count(len(group), 'cell')} {status.state} alike: {status.message}"
        parts.append(Text(f"{words}; first: {folder.path.name}", style="red"))
    parts += [Text(line) for line in _verdict_lines(suite_run)]
    notes = suite_run.unread + search_notes(suite_run) + _notes(overview)
    parts += [Text(f"note: {line}", style="yellow") for line in notes]
    return Group(*parts)


def _verdict_lines(suite_run: SuiteRun) -> list[str]:
    """Of a suite that is run until it is decided: what is, and what is still looked for."""
    if suite_run.plan is None:
        return []
    from marginbench.reporting.until_decided import describe
    from marginbench.reporting.verdicts import verdicts
    from marginbench.runs.results import results_of

    return describe(verdicts(results_of(suite_run)))


def _watch(
    console: Console, suite_run: SuiteRun, overview: SuiteOverview, every_cell: bool, seconds: float
) -> SuiteOverview:
    with Live(console=console, auto_refresh=False, vertical_overflow="visible") as live:
        while True:
            shown = status_table(suite_run, overview, every_cell)
            if console.is_terminal:
                live.update(shown, refresh=True)
            else:
                console.print(shown)
            if not any(cell.state in ACTIVE for cell in overview.known):
                return overview
            try:
                time.sleep(seconds)
            except KeyboardInterrupt:
                return overview
            overview = inspect_suite(suite_run)


def _note(cell: CellOverview) -> str:
    parts = [cell.note] if cell.note else []
    if cell.state == CellState.RUNNING:
        parts += [f"job {cell.job.id}"] if cell.job is not None and cell.job.alive else []
        parts += _pace(cell.status)
    if cell.requeues:
        parts.append("requeued once" if cell.requeues == 1 else f"requeued {cell.requeues} times")
    return ", ".join(parts)


def _pace(status: CellStatus) -> list[str]:
    """Iterations a second and the time left, of a running cell."""
    if status.lease is None:
        return []
    progress = status.lease.progress
    if not progress.keys() >= {"iteration", "of", "resumed_at", "started"}:
        return []
    steps = progress["iteration"] - progress["resumed_at"]
    seconds = time.time() - status.lease.age - progress["started"]
    if steps <= 0 or seconds <= 0:
        return []
    pace = steps / seconds
    left = (progress["of"] - progress["iteration"]) / pace
    return [f"{pace:.1f} iterations/s, {duration(left)} left"]


def _notes(overview: SuiteOverview) -> list[str]:
    """What concerns the whole suite: a queue that cannot be read, other cells, changed code."""
    notes = []
    if overview.queue_error:
        notes.append(f"the queue is not known ({overview.queue_error}); this is what is on disk")
    notes += describe_other_cells(overview)
    notes += code_notes((cell.folder, cell.status) for cell in overview.cells)
    if not overview.submissions:
        return notes
    last = overview.submissions[-1]
    if any(cell.state in ACTIVE for cell in overview.known):
        notes += [
            f"changed since submission: {change}"
            for change in changes(last.content.code, code_version())
        ]
        notes += [
            f"{file} changed since submission; the jobs run the copy made then"
            for file in last.changed_plugins()
        ]
    changed = {
        change
        for cell in overview.cells[:MANY]
        if cell.job is not None
        for attempt in attempts.read_attempts(cell.folder.path)[-1:]
        for change in attempt.changed
    }
    notes += [f"a cell has run with code changed since submission: {c}" for c in sorted(changed)]
    return notes
