"""What ``cancel`` and ``logs`` do."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click
from rich.markup import escape

from marginbench.command_line.live_display import make_console
from marginbench.dispatch.slurm.cell_states import ACTIVE, CellPlace, Overview, Place, look
from marginbench.dispatch.slurm.commands import SlurmHere, cancel_jobs
from marginbench.dispatch.slurm.jobs import jobs_of_only
from marginbench.errors import UserError
from marginbench.runs.suite_runs import open_suite
from marginbench.text import count

MIN_KEY = 4


def cancel(
    suite: str,
    runs: Path,
    names: Sequence[str],
    *,
    seeds: int | None,
    size: str,
    only: tuple[str, ...],
    more_heads: tuple[str, ...],
) -> int:
    """Take cells out of the queue; those that run write their checkpoint and stop.

    Without seeds and heads given, these are all cells that were ever submitted: those of further
    seeds, and those that have left the suite, too. A job that also holds other cells goes on.

    Cells that another cluster got are marked: its jobs train them no more, and end where that was
    all they had to do.

    Args:
        suite, runs, seeds, size, only, more_heads: as for
            :func:`marginbench.runs.suite_runs.open_suite`.
        names: of cells, see :func:`find_cell`; none for all of these seeds and heads.

    Returns:
        Exit status: 0.

    Raises:
        UserError: an unknown suite or cell, or the queue cannot be asked.
    """
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
    slurm = SlurmHere()
    overview = look(suite_run, slurm)
    if overview.trouble:
        raise UserError(f"what is in the queue cannot be known: {overview.trouble}")
    chosen = [find_cell(overview, name) for name in names] or overview.known
    active = [cell for cell in chosen if cell.place in ACTIVE and _obeys(cell)]
    keys = {cell.folder.key for cell in active}
    for job in overview.jobs:
        if not keys.isdisjoint(job.keys) and (job.alive or job.elsewhere(slurm)):
            job.submission.cancel(keys.intersection(job.keys))
    # A job whose other cells go on is left alone: it sees the marks.
    cancel_jobs(jobs_of_only(overview.jobs, {cell.folder.key for cell in chosen}))
    console = make_console()
    console.print(f"cancelled {count(len(active), 'cell')}", highlight=False)
    for name, number in Counter(cell.elsewhere for cell in active if cell.elsewhere).items():
        console.print(
            f"  {number} of them given to {name}: its jobs end as soon as they see it; "
            "`cancel` there takes waiting ones out of the queue",
            highlight=False,
        )
    for line in suite_run.unread:
        console.print(
            f"[yellow]note[/]: not cancelled, since not known: {escape(line)}", highlight=False
        )
    others = sum(cell.place == Place.RUNNING and not _obeys(cell) for cell in chosen)
    if others:
        console.print(
            f"{count(others, 'cell')} not trained by a job of the queue: left alone",
            highlight=False,
        )
    return 0


def _obeys(cell: CellPlace) -> bool:
    """Whether there is a job, or may be one elsewhere, that sees the mark of a cancelled cell."""
    return cell.job is not None and (cell.job.alive or bool(cell.elsewhere))


def show_logs(
    suite: str,
    runs: Path,
    name: str,
    *,
    seeds: int | None,
    size: str,
    only: tuple[str, ...],
    more_heads: tuple[str, ...],
) -> int:
    """Print what a cell's training has written, and what its job has.

    Args:
        suite, runs, seeds, size, only, more_heads: as for
            :func:`marginbench.runs.suite_runs.open_suite`.
        name: of the cell, see :func:`find_cell`.

    Returns:
        Exit status: 0, or 1 if nothing has been written yet.

    Raises:
        UserError: an unknown suite or cell.
    """
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
    cell = find_cell(look(suite_run), name)
    files = [cell.folder.log]
    if cell.job is not None:
        submission = cell.job.submission
        files += submission.output(cell.job.id)
    shown = 0
    for file in files:
        try:
            # A pipe would be waited for.
            text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
        except OSError:
            continue
        if text:
            shown += 1
            click.echo(f"==> {file} <==\n{text.rstrip()}\n")
    if not shown:
        click.echo(f"{cell.folder.path.name} ({cell.place}) has written nothing yet", err=True)
    return 0 if shown else 1


def find_cell(overview: Overview, name: str) -> CellPlace:
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
