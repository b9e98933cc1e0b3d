"""What ``run`` does, once its options are read."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.markup import escape

from marginbench.command_line.live_display import LiveDisplay, make_console
from marginbench.command_line.report import show_report
from marginbench.dispatch.local import Board, default_workers, run_locally
from marginbench.dispatch.torchrun_environment import (
    started_by_torchrun,
    torchrun_processes,
    torchrun_rank,
)
from marginbench.dispatch.worker import Order
from marginbench.errors import UserError
from marginbench.experiments.grids import FULL
from marginbench.files import no_empty_folders_on_error
from marginbench.plugins.loading import loaded_plugin_files
from marginbench.runs.deciding_code import is_stale
from marginbench.runs.run_folder import FINISHED, CellStatus, RunFolder, State
from marginbench.runs.suite_runs import SuiteRun, check_writable, open_suite
from marginbench.text import count

INTERRUPTED_STATUS = 130


def run_suite(
    suite: str,
    runs: Path,
    *,
    seeds: int | None,
    size: str = FULL,
    only: tuple[str, ...],
    more_heads: tuple[str, ...],
    workers: int | None,
    device: str,
    threads: int,
    checkpoint_seconds: float,
    dry_run: bool,
    no_report: bool,
    force: bool,
    retrain_stale: bool,
) -> int:
    """Train what is not done, then report.

    Returns:
        Exit status: 0, 1 if a cell failed or is damaged, 130 if interrupted.

    Raises:
        UserError: see :func:`open_suite`; a folder that cannot be written.
    """
    follows = torchrun_rank() > 0
    console = make_console(quiet=follows)
    suite_run = open_suite(suite, runs, seeds=seeds, size=size, only=only, more_heads=more_heads)
    _check_device(device)
    stale: set[str] = set()

    def order(folder: RunFolder) -> Order:
        return Order(
            cell=folder.cell,
            suite_folder=suite_run.folder,
            plugin_files=tuple(loaded_plugin_files()),
            device=device,
            threads=threads,
            checkpoint_seconds=checkpoint_seconds,
            force=force or folder.key in stale,
        )

    if follows and not dry_run:
        # What is to be done is rank 0's to say: the folders change while it is asked.
        _train_together(console, [order(folder) for folder in suite_run.runs], device)
        return 0
    statuses = [folder.status() for folder in suite_run.runs]
    if retrain_stale:
        known = zip(suite_run.runs, statuses, strict=True)
        stale |= {folder.key for folder, status in known if is_stale(folder, status)}
    todo = _to_run(suite_run, statuses, force, stale)
    damaged = [] if force else _damaged(suite_run, statuses)
    workers = min(workers or default_workers(device), max(len(todo), 1))
    ready = sum(status.state in FINISHED for status in statuses)
    console.print(
        f"{suite_run.suite.name}: {count(len(suite_run.runs), 'cell')}"
        + (f" of {suite_run.of}" if suite_run.of != len(suite_run.runs) else "")
        + f", {ready} finished, {len(todo)} to run"
        + (f" ({len(stale)} of other code or images)" if stale else "")
        + (f", {_how_many_at_a_time(workers)}" if todo else ""),
        highlight=False,
    )
    if dry_run:
        for folder in todo:
            console.print(f"  {folder.path.name}", highlight=False)
        _tell_damaged(console, damaged)
        return 1 if damaged else 0
    with no_empty_folders_on_error(suite_run.folder):
        check_writable(suite_run.folder)
        if todo:
            from marginbench.data import check_data

            # Before any training, and once: what is missing is fetched, what is damaged is told.
            check_data([folder.cell.data for folder in todo])
    board = Board(total=0)
    if started_by_torchrun():
        # Also with nothing to do: the others wait to hear it.
        orders = [order(folder) for folder in suite_run.runs]
        board = _train_together(console, orders, device)
    elif todo:
        board = _train(console, [order(folder) for folder in todo], workers)
    if board.stopping:
        left = len(todo) - sum(status.state in FINISHED for _, status in board.ended)
        console.print(
            f"[yellow]stopped[/]: {count(left, 'cell')} to go; the same command continues",
            highlight=False,
        )
        return INTERRUPTED_STATUS
    exit_status = 0 if no_report else show_report(console, suite_run, None, keep=True)
    failed = [(f, s) for f, s in board.ended if s.state not in FINISHED]
    for folder, status in failed:
        place, message = escape(str(folder.path)), escape(status.message)
        console.print(f"[red]{status.state}[/] {place}: {message}")
        console.print(f"  its output: {escape(str(folder.log))}", highlight=False)
    _tell_damaged(console, damaged)
    return 1 if failed or damaged else exit_status


def _to_run(
    suite_run: SuiteRun, statuses: list[CellStatus], force: bool, stale: set[str]
) -> list[RunFolder]:
    keep = (*FINISHED, State.DAMAGED)
    return [
        folder
        for folder, status in zip(suite_run.runs, statuses, strict=True)
        if force or folder.key in stale or status.state not in keep
    ]


def _damaged(suite_run: SuiteRun, statuses: list[CellStatus]) -> list[tuple[RunFolder, str]]:
    return [
        (folder, status.message)
        for folder, status in zip(suite_run.runs, statuses, strict=True)
        if status.state == State.DAMAGED
    ]


def _tell_damaged(console: Console, damaged: list[tuple[RunFolder, str]]) -> None:
    for folder, message in damaged:
        console.print(f"[red]damaged[/]: {escape(message)}", highlight=False)
        console.print(
            f"  to run this cell again, move or delete its folder {escape(str(folder.path))}",
            highlight=False,
        )


def _train(console: Console, orders: list[Order], workers: int) -> Board:
    previous = signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        with LiveDisplay(console, len(orders)) as display:
            return run_locally(orders, workers, display)
    finally:
        signal.signal(signal.SIGTERM, previous)


def _train_together(console: Console, orders: list[Order], device: str) -> Board:
    from marginbench.dispatch.torchrun import run_together

    with LiveDisplay(console, len(orders)) as display:
        return run_together(orders, device, display)


def _how_many_at_a_time(workers: int) -> str:
    processes = torchrun_processes()
    return f"{workers} at a time" if processes == 1 else f"each by {processes} processes"


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _check_device(device: str) -> None:
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise UserError("--device cuda: torch sees no CUDA device here; allowed: auto, cpu")
