"""What the user sees while cells run: live lines on a terminal, a line a cell in a log."""

from __future__ import annotations

import sys
import time
from types import TracebackType

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
from marginbench.dispatch.local import Board
from marginbench.runs.run_folder import CellStatus, RunFolder, State
from marginbench.text import percent

STYLES = {
    State.DONE: "green",
    State.DIVERGED: "yellow",
    State.FAILED: "red",
    State.DAMAGED: "red",
    State.RUNNING: "cyan",
    State.STOPPED: "yellow",
}


def make_console(*, quiet: bool = False) -> Console:
    """The terminal; into a file or a pipe, lines are wide enough for every table.

    Args:
        quiet: print nothing.
    """
    # The stream of now: what cells print may be sent elsewhere while they train.
    console = Terminal(quiet=quiet, file=sys.stdout)
    return console if console.is_terminal else Terminal(width=160, quiet=quiet, file=sys.stdout)


class LiveDisplay:
    """Shows a :class:`Board` as it changes; use as a context, call with the board."""

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._told = 0
        self._told_elsewhere: set[str] = set()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._all = self._progress.add_task("cells", total=total)
        self._tasks: dict[str, TaskID] = {}
        self._started = time.monotonic()

    def __enter__(self) -> LiveDisplay:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def __call__(self, board: Board) -> None:
        for folder, status in board.ended[self._told :]:
            self._told += 1
            self._console.print(
                f"[{self._told}/{board.total}] {cell_line(folder, status)}", highlight=False
            )
        for key, (folder, status) in list(board.elsewhere.items()):
            if key not in self._told_elsewhere:
                self._told_elsewhere.add(key)
                self._console.print(cell_line(folder, status), highlight=False)
        description = "stopping, writing checkpoints ..." if board.stopping else "cells"
        if board.elsewhere and not board.active:
            description = f"waiting for {len(board.elsewhere)} that another process trains"
        self._progress.update(self._all, completed=len(board.ended), description=description)
        self._show_active(board.active, board.iterations)

    def _show_active(self, active: list[RunFolder], iterations: dict[str, int]) -> None:
        keys = {folder.key for folder in active}
        for key in [key for key in self._tasks if key not in keys]:
            self._progress.remove_task(self._tasks.pop(key))
        for folder in active:
            if folder.key not in self._tasks:
                self._tasks[folder.key] = self._progress.add_task(
                    f"  {folder.cell.slug}", total=folder.cell.schedule.iterations
                )
            done = iterations.get(folder.key, 0)
            self._progress.update(self._tasks[folder.key], completed=done)


def cell_line(folder: RunFolder, status: CellStatus) -> str:
    """A cell and how it ended, in one line of rich markup."""
    style = STYLES.get(status.state, "default")
    setting = f" ({folder.cell.setting})" if folder.cell.setting else ""
    text = f"[{style}]{status.state}[/] {folder.path.name}{escape(setting)}"
    if status.state == State.DONE and status.result is not None:
        error, verified = (status.result.get(n) for n in ("test_error", "verification_accuracy"))
        if error is None and verified is not None:
            return f"{text}: verification accuracy {percent(verified)} %"
        return f"{text}: test error {percent(error)} %"
    if status.message:
        text += f": {escape(status.message)}"
    return text
