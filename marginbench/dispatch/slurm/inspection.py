"""Where a suite's cells stand: from the run folders, and from the queue where they do not decide.

SLURM is asked once, whatever the number of jobs, and the run folders are read after that: a cell
that ends in between is found done.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from marginbench.dispatch.slurm.cell_states import LEFT, CellOverview, CellState, SuiteOverview
from marginbench.dispatch.slurm.commands import (
    LocalSlurm,
    QueuedJob,
    job_name,
    queued_jobs,
    slurm_available,
)
from marginbench.dispatch.slurm.jobs import STALE_DAYS, Job, all_jobs
from marginbench.dispatch.slurm.submissions import submissions
from marginbench.errors import UserError
from marginbench.runs import attempts
from marginbench.runs.cell_status import FINISHED, CellStatus, State
from marginbench.runs.quick_status import quick_status
from marginbench.runs.run_folder import RunFolder
from marginbench.runs.suite_runs import SuiteRun

# Up to so many cells, the files of finished ones are read whole, to find damage.
THOROUGH_CELLS = 500

# SLURM's states of a job that is in the queue without a node.
WAITING = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT")


def inspect_suite(suite_run: SuiteRun, slurm: LocalSlurm | None = None) -> SuiteOverview:
    """The states of a suite's cells now.

    Raises:
        UserError: the suite's folder cannot be read.
    """
    slurm = slurm or LocalSlurm()
    found = submissions(suite_run.folder)
    queue: list[QueuedJob] = []
    queue_error = ""
    if slurm_available() and any(one.settings.executor == "slurm" for one in found):
        try:
            queue = queued_jobs(job_name(suite_run.suite.name))
        except UserError as error:
            queue_error = str(error)
    jobs = all_jobs(found, queue)
    last = {key: job for job in jobs for key in job.keys}
    cancelled = {submission.path.name: submission.cancelled() for submission in found}
    there = _folder_names(suite_run.folder)
    parts = (suite_run.runs, suite_run.further, suite_run.left)
    thorough = sum(map(len, parts)) <= THOROUGH_CELLS

    statuses = {folder.key: CellStatus(State.NOT_STARTED) for part in parts for folder in part}
    for folder in (folder for part in parts for folder in part):
        if folder.path.name in there:
            statuses[folder.key] = folder.status() if thorough else quick_status(folder)
    starting = {
        (job.id, _next_cell(job, statuses, cancelled[job.submission.path.name]))
        for job in jobs
        if job.alive
    }

    def overview(folder: RunFolder) -> CellOverview:
        status = statuses[folder.key]
        job = last.get(folder.key)
        if job is None or status.state in (*FINISHED, State.DAMAGED):
            state = CellState(status.state.value)
            if state == CellState.NOT_STARTED and found:
                state = CellState.NOT_SUBMITTED
            return CellOverview(folder, state, status, job, status.message)
        is_cancelled = folder.key in cancelled[job.submission.path.name]
        remote = "" if queue_error else job.remote_owner(slurm)
        is_next = (job.id, folder.key) in starting
        return _of_job(folder, status, job, remote, is_cancelled, bool(queue_error), is_next)

    asked, further, left = ([overview(folder) for folder in part] for part in parts)
    left = [replace(cell, note=f"{LEFT}, {cell.note}".removesuffix(", ")) for cell in left]
    return SuiteOverview(asked, further, left, jobs, found, queue_error, thorough)


def _of_job(
    folder: RunFolder,
    status: CellStatus,
    job: Job,
    remote: str,
    cancelled: bool,
    queue_unknown: bool,
    is_next: bool,
) -> CellOverview:
    """The overview of a cell that was submitted and has not ended."""
    history = attempts.read_attempts(folder.path, job.submission.path.name)
    restarts = max((attempt.restart for attempt in history), default=0)
    over = cancelled or _given_up(status, history, job)

    def is_in(state: CellState, note: str, requeues: int = restarts) -> CellOverview:
        known = remote if state in (CellState.RUNNING, CellState.REMOTE) else ""
        return CellOverview(folder, state, status, job, note, requeues, known)

    if status.state == State.RUNNING:
        return is_in(CellState.RUNNING, status.message)
    if job.alive and not over:
        return is_in(*_in_queue(job, history, restarts, is_next))
    if remote and not over:
        if job.days_silent < STALE_DAYS:
            return is_in(CellState.REMOTE, f"job {job.id} of {remote}")
        note = f"job {job.id} of {remote}: none of its submission's jobs has started or ended for"
        return is_in(CellState.LOST, f"{note} {STALE_DAYS} days")
    if cancelled:
        return is_in(CellState.CANCELLED, "")
    if status.state == State.FAILED:
        made = f" ({len(history)} attempts)" if len(history) > 1 else ""
        return is_in(CellState.FAILED, status.message + made)
    if queue_unknown:
        return is_in(CellState.PENDING, f"job {job.id}, in the queue when it was submitted")
    if history and history[-1].end == attempts.STOPPED:
        return is_in(CellState.STOPPED, f"job {job.id} has ended")
    return is_in(CellState.LOST, job.last_output())


def _given_up(status: CellStatus, history: list[attempts.Attempt], job: Job) -> bool:
    """Whether a failed cell's job, though it may be alive, will make no further attempt at it."""
    if status.state != State.FAILED or not history:
        return False
    failed = sum(attempt.end in (attempts.FAILED, attempts.KILLED) for attempt in history)
    return history[-1].end == attempts.REFUSED or failed >= job.submission.settings.attempts


def _next_cell(job: Job, statuses: Mapping[str, CellStatus], cancelled: set[str]) -> str | None:
    """The key of the cell that a job trains next; None while it trains one, or if none is left."""
    states = {key: statuses[key].state for key in job.keys if key in statuses}
    if State.RUNNING in states.values():
        return None
    left = [
        key
        for key, state in states.items()
        if state not in (*FINISHED, State.DAMAGED) and key not in cancelled
    ]
    # Cells that failed are tried again behind the others.
    return min(left, key=lambda key: states[key] == State.FAILED, default=None)


def _in_queue(
    job: Job, history: list[attempts.Attempt], restarts: int, is_next: bool
) -> tuple[CellState, str, int]:
    """State, note and number of requeues of a cell whose job waits or runs."""
    queued, note = job.queued, f"job {job.id}"
    if queued is not None and queued.state in WAITING:
        note += f": {queued.reason}" if queued.reason not in ("", "None") else ""
        if any(attempt.job == job.id for attempt in history):
            return CellState.REQUEUED, note, restarts + 1
        return CellState.PENDING, note, 0
    if is_next:
        node = queued.node if queued is not None else ""
        return CellState.STARTING, note + (f" on {node}" if node else ""), restarts
    return CellState.PENDING, f"{note}: behind its job's others", 0


def _folder_names(suite_folder: Path) -> set[str]:
    try:
        with os.scandir(suite_folder) as entries:
            return {entry.name for entry in entries}
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise UserError(f"{suite_folder} cannot be read: {error.strerror}") from None
