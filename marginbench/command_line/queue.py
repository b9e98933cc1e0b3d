"""What ``cancel`` and ``logs`` do."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click
from rich.markup import escape

from marginbench.command_line.live_display import make_console
from marginbench.command_line.suite_selection import SuiteSelection
from marginbench.dispatch.slurm.cell_states import ACTIVE, CellOverview, CellState, SuiteOverview
from marginbench.dispatch.slurm.commands import LocalSlurm, cancel_jobs
from marginbench.dispatch.slurm.inspection import inspect_suite
from marginbench.dispatch.slurm.jobs import jobs_of_only
from marginbench.errors import UserError
from marginbench.files import read_regular
from marginbench.text import count

MIN_KEY = 4


def cancel(selection: SuiteSelection, names: Sequence[str]) -> int:
    """Take cells out of the queue; those that run write their checkpoint and stop.

    Without seeds and heads given, these are all cells that were ever submitted: those of further
    seeds, and those that have left the suite, too. A job that also holds other cells goes on.

    Cells that were submitted to another cluster are marked: its jobs train them no more, and end
    where they hold no others.

    Args:
        selection: of the suite's cells.
        names: of cells, see :func:`find_cell`; none for all of these seeds and heads.

    Raises:
        UserError: an unknown suite or cell, or the queue cannot be read.
    """
    suite_run = selection.open(gone_heads=True)
    slurm = LocalSlurm()
    overview = inspect_suite(suite_run, slurm)
    if overview.queue_error:
        raise UserError(f"what is in the queue cannot be known: {overview.queue_error}")
    chosen = [find_cell(overview, name) for name in names] or overview.known
    active = [cell for cell in chosen if cell.state in ACTIVE and _has_job(cell)]
    keys = {cell.folder.key for cell in active}
    for job in overview.jobs:
        if not keys.isdisjoint(job.keys) and (job.alive or job.remote_owner(slurm)):
            job.submission.cancel(keys.intersection(job.keys))
    # A job whose other cells go on is left alone: it sees the marks.
    cancel_jobs(jobs_of_only(overview.jobs, {cell.folder.key for cell in chosen}))
    console = make_console()
    console.print(f"cancelled {count(len(active), 'cell')}")
    for name, number in Counter(cell.remote for cell in active if cell.remote).items():
        console.print(
            f"  {number} of them submitted to {name}: its jobs end as soon as they see it; "
            "`cancel` there takes waiting ones out of the queue"
        )
    for line in suite_run.unread:
        console.print(f"[yellow]note[/]: not cancelled, since not known: {escape(line)}")
    others = sum(cell.state == CellState.RUNNING and not _has_job(cell) for cell in chosen)
    if others:
        console.print(f"{count(others, 'cell')} not trained by a job of the queue: left alone")
    return 0


def _has_job(cell: CellOverview) -> bool:
    """Whether there is a job, here or on another cluster, that sees that the cell is cancelled."""
    return cell.job is not None and (cell.job.alive or bool(cell.remote))


def show_logs(selection: SuiteSelection, name: str) -> int:
    """Print what a cell's training has written, and what its job has; see :func:`find_cell`.

    Returns:
        Exit status: 0, or 1 if nothing has been written yet.

    Raises:
        UserError: an unknown suite or cell.
    """
    cell = find_cell(inspect_suite(selection.open(gone_heads=True)), name)
    files = [cell.folder.log]
    if cell.job is not None:
        files += cell.job.submission.output(cell.job.id)
    shown = 0
    for file in files:
        try:
            text = read_regular(file).decode(errors="replace")
        except FileNotFoundError:
            continue
        except OSError as error:
            click.echo(f"{file} cannot be read: {error.strerror or error}", err=True)
            continue
        if text:
            shown += 1
            click.echo(f"==> {file} <==\n{text.rstrip()}\n")
    if not shown:
        click.echo(f"{cell.folder.path.name} ({cell.state}) has written nothing yet", err=True)
    return 0 if shown else 1


def find_cell(overview: SuiteOverview, name: str) -> CellOverview:
    """The cell of a name: its folder's name, its key, or the first characters of its key.

    A folder's name without the key is that of the suite's own cell, or else of one that has left.

    Raises:
        UserError: there is none, or more than one.
    """
    by_name = {cell.folder.path.name: cell for cell in overview.known}
    folder = Path(name).name
    if folder in by_name:
        return by_name[folder]
    found = (
        [c for c in overview.known if len(name) >= MIN_KEY and c.folder.key.startswith(name)]
        or [cell for cell in overview.cells if cell.folder.cell.slug == name]
        or [cell for cell in overview.left if cell.folder.cell.slug == name]
    )
    if len(found) == 1:
        return found[0]
    if found:
        several = ", ".join(cell.folder.path.name for cell in found[:5])
        raise UserError(f"cell {name!r} is not clear; it may be: {several}")
    close = difflib.get_close_matches(name, by_name, n=3, cutoff=0.4)
    raise UserError(
        f"unknown cell {name!r}; allowed: a folder's name or key, as `status` prints them"
        + (f"; did you mean {' or '.join(close)}?" if close else "")
    )
