"""What ``status`` prints: every cell, or of thousands those worth a line, and the counts."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from marginbench.command_line.live_display import make_console
from marginbench.dispatch.slurm.cell_states import (
    ACTIVE,
    CellPlace,
    Overview,
    Place,
    look,
    told_elsewhere,
    told_left,
)
from marginbench.runs import attempts as tries
from marginbench.runs.code_version import changes, code_version
from marginbench.runs.deciding_code import code_notes
from marginbench.runs.run_folder import CellStatus
from marginbench.runs.suite_runs import SuiteRun, open_suite
from marginbench.text import count, duration

MANY = 200
STYLES = {
    Place.DONE: "green",
    Place.DIVERGED: "yellow",
    Place.RUNNING: "cyan",
    Place.STARTING: "cyan",
    Place.REQUEUED: "yellow",
    Place.STOPPED: "yellow",
    Place.CANCELLED: "yellow",
    Place.FAILED: "red",
    Place.DAMAGED: "red",
    Place.LOST: "red",
}
BAD = (Place.FAILED, Place.DAMAGED, Place.LOST)
# Of thousands of cells, these come first.
_WORTH_TELLING = (*BAD, Place.RUNNING, Place.STARTING, Place.REQUEUED, Place.STOPPED)


def show_status(
    suite: str,
    runs: Path,
    *,
    seeds: int | None,
    size: str,
    only: tuple[str, ...],
    more_heads: tuple[str, ...],
    watch: float | None = None,
    every_cell: bool = False,
) -> int:
    """Print the cells and where they stand.

    Args:
        suite, runs, seeds, size, only, more_heads: as for
            :func:`marginbench.runs.suite_runs.open_suite`.
        watch: print anew every so many seconds until nothing runs or waits; None for once.
        every_cell: print every cell, however many there are.

    Returns:
        Exit status: 0, or 1 if a cell failed, is damaged or was lost.

    Raises:
        UserError: see :func:`marginbench.runs.suite_runs.open_suite`.
    """
    console = make_console()
    suite_run = open_suite(
        suite,
        runs,
        seeds=seeds,
        size=size,
        only=only,
        more_heads=more_heads,
        light=True,
        submitted=True,
    )
    overview = look(suite_run)
    if watch is None:
        console.print(board(suite_run, overview, every_cell))
    else:
        overview = _watch(console, suite_run, overview, every_cell, watch)
    return 1 if any(cell.place in BAD for cell in overview.cells) else 0


def board(suite_run: SuiteRun, overview: Overview, every_cell: bool = False) -> RenderableType:
    """An overview for the terminal: a table of cells, the counts, and what else is to be told.

    Of cells that have left the suite, those that wait or run are in the table.
    """
    shown = overview.cells + [cell for cell in overview.left if cell.place in ACTIVE]
    left_out = 0
    if len(shown) > MANY and not every_cell:
        rank = {place: number for number, place in enumerate(_WORTH_TELLING)}
        worth = [cell for cell in shown if cell.place in rank]
        worth.sort(key=lambda cell: rank[cell.place])
        left_out = len(shown) - len(worth[:MANY])
        shown = worth[:MANY]
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("cell", "setting", "state", "iteration", ""):
        table.add_column(column, overflow="fold")
    for cell in shown:
        status = cell.status if overview.thorough else cell.folder.status()
        style = STYLES.get(cell.place, "default")
        table.add_row(
            cell.folder.path.name,
            escape(cell.folder.cell.setting),
            f"[{style}]{cell.place}[/]",
            f"{status.iteration}/{cell.folder.cell.schedule.iterations}",
            escape(_note(cell)),
        )
    places = Counter(cell.place for cell in overview.cells)
    told = ", ".join(f"{places[place]} {place}" for place in Place if places[place])
    parts: list[RenderableType] = [table] if shown else []
    if left_out:
        parts.append(Text(f"{count(left_out, 'cell')} not listed; --all lists every one"))
    parts.append(Text(": ".join(filter(None, [count(len(overview.cells), "cell"), told]))))
    notes = suite_run.unread + _notes(overview)
    parts += [Text(f"note: {line}", style="yellow") for line in notes]
    return Group(*parts)


def _watch(
    console: Console, suite_run: SuiteRun, overview: Overview, every_cell: bool, seconds: float
) -> Overview:
    live = Live(console=console, auto_refresh=False, vertical_overflow="visible")
    with live:
        while True:
            shown = board(suite_run, overview, every_cell)
            if console.is_terminal:
                live.update(shown, refresh=True)
            else:
                console.print(shown)
            if not any(cell.place in ACTIVE for cell in overview.known):
                return overview
            try:
                time.sleep(seconds)
            except KeyboardInterrupt:
                return overview
            overview = look(suite_run)


def _note(cell: CellPlace) -> str:
    parts = [cell.note] if cell.note else []
    if cell.place == Place.RUNNING:
        parts += [f"job {cell.job.id}"] if cell.job is not None and cell.job.alive else []
        parts += _pace(cell.status)
    if cell.requeues:
        parts.append("requeued once" if cell.requeues == 1 else f"requeued {cell.requeues} times")
    return ", ".join(parts)


def _pace(status: CellStatus) -> list[str]:
    """Iterations a second and the time left, of a running cell."""
    progress = {} if status.lease is None else status.lease.progress
    if not progress.keys() >= {"iteration", "of", "resumed_at", "started"}:
        return []
    steps = progress["iteration"] - progress["resumed_at"]
    seconds = time.time() - status.lease.age - progress["started"]
    if steps <= 0 or seconds <= 0:
        return []
    pace = steps / seconds
    left = (progress["of"] - progress["iteration"]) / pace
    return [f"{pace:.1f} iterations/s, {duration(left)} left"]


def _notes(overview: Overview) -> list[str]:
    """What the whole suite's reader should know: a silent queue, changed code."""
    notes = []
    if overview.trouble:
        notes.append(f"the queue is not known ({overview.trouble}); this is what is on disk")
    notes += told_left(overview) + told_elsewhere(overview)
    notes += code_notes((cell.folder, cell.status) for cell in overview.cells)
    if not overview.submissions:
        return notes
    last = overview.submissions[-1]
    unfinished = [c for c in overview.known if c.place in ACTIVE]
    if unfinished:
        notes += [
            f"changed since submission: {change}"
            for change in changes(last.content["code"], code_version())
        ]
        notes += [
            f"{file} changed since submission; the jobs run the copy made then"
            for file in last.changed_plugins()
        ]
    ran_changed = {
        change
        for cell in overview.cells[:MANY]
        if cell.job is not None
        for one in tries.read_tries(cell.folder.path)[-1:]
        for change in one.changed
    }
    notes += [
        f"a cell has run with code changed since submission: {c}" for c in sorted(ran_changed)
    ]
    return notes
