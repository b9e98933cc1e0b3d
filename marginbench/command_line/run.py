"""What ``run`` does, once its options are read."""

from __future__ import annotations

import importlib
import signal
import threading
from types import FrameType
from typing import Any

from rich.console import Console
from rich.markup import escape

from marginbench.command_line.command_group import INTERRUPTED_STATUS
from marginbench.command_line.live_display import (
    LiveDisplay,
    make_console,
    print_cells,
    print_damaged,
    print_failures,
    print_unread,
    print_way_out,
)
from marginbench.command_line.report import show_report
from marginbench.command_line.suite_selection import SuiteSelection
from marginbench.dispatch.local import (
    DispatchProgress,
    default_workers,
    run_locally,
    start_server,
)
from marginbench.dispatch.torchrun_environment import (
    started_by_torchrun,
    torchrun_processes,
    torchrun_rank,
)
from marginbench.dispatch.worker import TrainingTask
from marginbench.errors import UserError
from marginbench.experiments.cells import FUSED
from marginbench.files import no_empty_folders_on_error
from marginbench.plugins.registrations import check_known, plugin_files
from marginbench.runs.cell_status import FINISHED, CellStatus, State
from marginbench.runs.environment import check_environment
from marginbench.runs.run_folder import RunFolder
from marginbench.runs.stale_results import is_stale, stale_notes
from marginbench.runs.suite_runs import SuiteRun, check_writable
from marginbench.text import count
from marginbench.training.native_library import SLOWER, compile_layers


def run_suite(selection: SuiteSelection, **options: Any) -> int:
    """Train what is not done, then report; see :func:`run_cells` for the options and the status.

    Raises:
        UserError: see :meth:`SuiteSelection.open`; a folder that cannot be written.
    """
    here = not options["dry_run"] and not started_by_torchrun()
    # The server that workers are forked from loads torch while this process does.
    return run_cells(
        selection.open(to_be_resolved=start_server if here else lambda cells: None), **options
    )


def run_cells(
    suite_run: SuiteRun,
    *,
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
        UserError: data that are missing, a section that is not there, or a folder that cannot be
            written.
    """
    follows = torchrun_rank() > 0
    console = make_console(quiet=follows)
    here = not dry_run and not started_by_torchrun()
    for section in suite_run.suite.sections or ():
        # Before any training: the report would be refused.
        check_known("section", section)
    check_environment()
    _check_device(device)
    stale: set[str] = set()

    def task_of(folder: RunFolder) -> TrainingTask:
        return TrainingTask(
            cell=folder.cell,
            suite_folder=suite_run.folder,
            plugin_files=tuple(plugin_files()),
            device=device,
            threads=threads,
            checkpoint_seconds=checkpoint_seconds,
            force=force or folder.key in stale,
        )

    if follows and not dry_run:
        # What is to be done is rank 0's to say: the folders change while it is asked.
        _train_together(console, [task_of(folder) for folder in suite_run.runs], device)
        return 0
    statuses = [folder.status() for folder in suite_run.runs]
    if retrain_stale:
        known = zip(suite_run.runs, statuses, strict=True)
        stale |= {folder.key for folder, status in known if is_stale(folder, status)}
    todo = _to_run(suite_run, statuses, force, stale)
    damaged = [] if force else _damaged(suite_run, statuses)
    # Only where something is to be trained: counting GPUs takes torch.
    cells = [folder.cell for folder in todo]
    workers = min(workers or default_workers(device, cells), len(todo)) if todo else 1
    ready = sum(status.state in FINISHED for status in statuses)
    console.print(
        f"{suite_run.suite.name}: {count(len(suite_run.runs), 'cell')}"
        + (f" of {suite_run.of}" if suite_run.of != len(suite_run.runs) else "")
        + f", {ready} finished, {len(todo)} to run"
        + (f" ({len(stale)} of other code or images)" if stale else "")
        + (f", {_how_many_at_a_time(workers)}" if todo else ""),
    )
    if dry_run:
        print_cells(console, suite_run, todo)
        print_unread(console, cells)
        for folder, message in damaged:
            print_damaged(console, folder, message)
        for note in stale_notes(zip(suite_run.runs, statuses, strict=True)):
            console.print(f"[yellow]note[/]: {escape(note)}", highlight=False)
        return 1 if damaged else 0
    with no_empty_folders_on_error(suite_run.folder):
        check_writable(suite_run.folder)
        if todo:
            from marginbench.data import check_data
            from marginbench.training.batches import check_batches

            if here:
                start_server(cells)
            # Before any training, and once: missing data are fetched, damaged ones are an error.
            shapes = check_data(
                [folder.cell.data for folder in todo],
                lambda name, lines: console.print(f"  {escape(name)}: {escape(' '.join(lines))}"),
            )
            from marginbench.training.model_check import check_models

            for message in check_models(cells, shapes):
                console.print(f"[yellow]note[/]: {escape(message)}; its cells will fail")
            check_batches(cells)
        suite_run.record()
    progress = DispatchProgress(total=0)
    if started_by_torchrun():
        # Also with nothing to do: the others wait to hear it.
        tasks = [task_of(folder) for folder in suite_run.runs]
        progress = _train_together(console, tasks, device)
    elif todo:
        if device != "cuda":
            _say_if_slower(console, todo, threads)
        if not no_report:
            _load_drawing_meanwhile()
        progress = _train(console, [task_of(folder) for folder in todo], workers)
    failed = [(f, s) for f, s in progress.ended if s.state not in FINISHED]
    if progress.stopping:
        print_failures(console, [(f, s) for f, s in failed if s.state != State.STOPPED])
        left = len(todo) - sum(status.state in FINISHED for _, status in progress.ended)
        console.print(
            f"[yellow]stopped[/]: {count(left, 'cell')} to go; the same command continues",
        )
        return INTERRUPTED_STATUS
    exit_status = 0
    if not no_report:
        known = None if todo else statuses
        exit_status = show_report(console, suite_run, None, keep=True, statuses=known)
    print_failures(console, failed)
    for folder, message in damaged:
        if no_report:
            print_damaged(console, folder, message)
        else:
            # The report has named it.
            print_way_out(console, folder)
    return 1 if failed or damaged else exit_status


def _load_drawing_meanwhile() -> None:
    """What figures are drawn with takes two seconds to load; the workers' server loads as long."""
    drawing = "marginbench.reporting.drawing"
    threading.Thread(target=importlib.import_module, args=(drawing,), daemon=True).start()


def _say_if_slower(console: Console, todo: list[RunFolder], threads: int) -> None:
    if any(folder.cell.execution == FUSED for folder in todo):
        reason = f"--threads is {threads}; they take 1" if threads > 1 else compile_layers()[1]
        if reason:
            console.print(f"[yellow]note[/]: {escape(SLOWER.format(reason=reason))}")


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


def _train(console: Console, tasks: list[TrainingTask], workers: int) -> DispatchProgress:
    previous = signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        with LiveDisplay(console, len(tasks), [task.cell for task in tasks]) as display:
            return run_locally(tasks, workers, display)
    finally:
        signal.signal(signal.SIGTERM, previous)


def _train_together(console: Console, tasks: list[TrainingTask], device: str) -> DispatchProgress:
    from marginbench.dispatch.torchrun import run_together

    with LiveDisplay(console, len(tasks), [task.cell for task in tasks]) as display:
        return run_together(tasks, device, display)


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
