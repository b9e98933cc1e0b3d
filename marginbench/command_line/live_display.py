"""What the user sees while cells run: live lines on a terminal, a line a cell in a log."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable
from dataclasses import replace

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from marginbench.command_line.terminal import Terminal
from marginbench.dispatch.local import DispatchProgress
from marginbench.errors import UserError
from marginbench.experiments.cells import Cell
from marginbench.plugins.component import Component
from marginbench.runs.cell_status import FINISHED, CellStatus, State, failures_alike
from marginbench.runs.conditions import differences
from marginbench.runs.run_folder import RunFolder
from marginbench.runs.suite_runs import SuiteRun
from marginbench.text import count, percent

STYLES = {
    **dict.fromkeys(["done"], "green"),
    **dict.fromkeys(["running", "starting"], "cyan"),
    **dict.fromkeys(["diverged", "stopped", "requeued", "cancelled"], "yellow"),
    **dict.fromkeys(["failed", "damaged", "lost"], "red"),
}
"""The colour of a cell's state."""


def make_console(*, quiet: bool = False) -> Console:
    """The terminal, or nothing; into a file or a pipe, lines are wide enough for every table."""
    # Looked up now: sys.stdout may be redirected while cells train.
    console = Terminal(quiet=quiet, file=sys.stdout, highlight=False)
    if not console.is_terminal:
        console.width = 160
    return console


class LiveDisplay:
    """Shows a :class:`DispatchProgress` as it changes; use as a context, call with the progress.

    Args:
        console: where to print.
        total: how many cells are trained.
        cells: of the suite, so that names that differ in the key alone say what differs.
    """

    def __init__(self, console: Console, total: int, cells: Iterable[Cell] = ()) -> None:
        self._console = console
        self._differences = differences(cells)
        self._shown = 0
        self._shown_busy: set[str] = set()
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._all = self._bars.add_task("cells", total=total)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> LiveDisplay:
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

    def __call__(self, progress: DispatchProgress) -> None:
        for folder, status in progress.ended[self._shown :]:
            self._shown += 1
            if status.state not in FINISHED:
                # Why is said once, at the end.
                status = replace(status, message="")
            self._console.print(f"[{self._shown}/{progress.total}] {self._line(folder, status)}")
        for key, (folder, status) in list(progress.busy.items()):
            if key not in self._shown_busy:
                self._shown_busy.add(key)
                self._console.print(self._line(folder, status))
        description = "stopping, writing checkpoints ..." if progress.stopping else "cells"
        if progress.busy and not progress.active:
            description = f"waiting for {len(progress.busy)} that another process trains"
        self._bars.update(self._all, completed=len(progress.ended), description=description)
        self._show_active(progress.active, progress.iterations)

    def _line(self, folder: RunFolder, status: CellStatus) -> str:
        return cell_line(folder, status, self._differences.get(folder.key, ""))

    def _show_active(self, active: list[RunFolder], iterations: dict[str, int]) -> None:
        keys = {folder.key for folder in active}
        for key in [key for key in self._tasks if key not in keys]:
            self._bars.remove_task(self._tasks.pop(key))
        for folder in active:
            if folder.key not in self._tasks:
                name = f"  {folder.cell.slug} {self._differences.get(folder.key, '')}".rstrip()
                self._tasks[folder.key] = self._bars.add_task(
                    escape(name), total=folder.cell.schedule.iterations
                )
            done = iterations.get(folder.key, 0)
            self._bars.update(self._tasks[folder.key], completed=done)


def cell_line(folder: RunFolder, status: CellStatus, difference: str = "") -> str:
    """A cell and how it ended, in one line of rich markup.

    Args:
        folder, status: of the cell.
        difference: see :func:`marginbench.runs.conditions.differences`.
    """
    style = STYLES.get(status.state, "default")
    more = ", ".join(filter(None, [folder.cell.setting, difference]))
    setting = f" ({more})" if more else ""
    text = f"[{style}]{status.state}[/] {folder.path.name}{escape(setting)}"
    if status.state == State.DONE and status.result is not None:
        error, verified = (status.result.get(n) for n in ("test_error", "verification_accuracy"))
        if error is None and verified is not None:
            return f"{text}: verification accuracy {percent(verified)} %"
        return f"{text}: test error {percent(error)} %"
    if status.message:
        text += f": {escape(status.message)}"
    return text


def print_cells(console: Console, suite_run: SuiteRun, chosen: list[RunFolder]) -> None:
    """Print the folders' names of some cells of a suite, and how those that look alike differ."""
    apart = differences(folder.cell for folder in suite_run.runs)
    for folder in chosen:
        line = f"  {folder.path.name} {escape(apart.get(folder.key, ''))}"
        console.print(line.rstrip(), soft_wrap=True)


def print_failures(console: Console, failed: Iterable[tuple[RunFolder, CellStatus]]) -> None:
    """Why cells failed, with the path of their output; once for those that failed alike."""
    for alike in failures_alike(failed):
        folder, status = alike[0]
        path, message = escape(str(folder.path)), escape(status.message)
        if len(alike) == 1:
            console.print(f"[red]{status.state}[/] {path}: {message}")
        else:
            number = count(len(alike), "cell")
            console.print(f"{number} [red]{status.state}[/] alike: {message}; first: {path}")
        console.print(f"  its output: {escape(str(folder.log))}")


def print_damaged(console: Console, folder: RunFolder, message: str) -> None:
    """Name a damaged cell, and what lets it be trained again."""
    console.print(f"[red]damaged[/]: {escape(message)}")
    print_way_out(console, folder)


def print_way_out(console: Console, folder: RunFolder) -> None:
    """What lets a damaged cell be trained again."""
    where = escape(str(folder.path))
    console.print(f"  to train this cell again, move or delete its folder {where}")


def print_unread(console: Console, cells: Iterable[Cell]) -> None:
    """Say which files of the cells' data are there and not read, where they are there."""
    from marginbench.data import unread_files

    for data in dict.fromkeys(cell.data.model_dump_json() for cell in cells):
        # On a login node the data may be missing: the jobs will tell.
        with contextlib.suppress(UserError):
            if unread := unread_files(Component.model_validate_json(data)):
                console.print(f"[yellow]note[/]: {escape(unread)}")
