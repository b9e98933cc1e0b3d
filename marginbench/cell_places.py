"""Where a suite's cells stand: on disk first, in the queue second.

One look asks SLURM once, whatever the number of jobs, and reads the run folders after that: a
cell that ends in between is found done.
"""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from marginbench import tries
from marginbench.errors import UserError
from marginbench.slurm_commands import QueuedJob, job_name, queued_jobs, slurm_is_here
from marginbench.store import FINISHED, CellStatus, RunFolder, State
from marginbench.submissions import Submission, local_job_lives, submissions
from marginbench.suite_runs import SuiteRun


class Place(StrEnum):
    """What has become of a cell, its job included."""

    DONE = "done"
    DIVERGED = "diverged"
    RUNNING = "running"
    STARTING = "starting"
    PENDING = "pending"
    REQUEUED = "requeued"
    FAILED = "failed"
    DAMAGED = "damaged"
    LOST = "lost"
    CANCELLED = "cancelled"
    STOPPED = "stopped"
    NOT_SUBMITTED = "not submitted"
    NOT_STARTED = "not started"


# Up to so many cells, the files of finished ones are read whole, to find damage.
THOROUGH_CELLS = 500
IN_QUEUE = (Place.STARTING, Place.PENDING, Place.REQUEUED)


@dataclass(frozen=True)
class Job:
    """The last job that a cell was given to.

    Attributes:
        id: the job's.
        submission: whose it is.
        queued: what the queue says of it; None if it is not there.
        alive: whether it is in the queue, or a process of this machine.
        cells: how many it holds.
    """

    id: str
    submission: Submission
    queued: QueuedJob | None
    alive: bool
    cells: int


@dataclass(frozen=True)
class CellPlace:
    """A cell and where it stands.

    Attributes:
        folder: its run folder.
        place: see :class:`Place`.
        status: what the run folder says.
        job: the last job that it was given to, if any.
        note: the error, the reason of waiting, who trains it.
        requeues: how often its job went back into the queue.
    """

    folder: RunFolder
    place: Place
    status: CellStatus
    job: Job | None
    note: str = ""
    requeues: int = 0


@dataclass(frozen=True)
class Overview:
    """All cells of a suite at one moment.

    Attributes:
        cells: in the suite's order.
        submissions: all there are, the oldest first.
        trouble: why the queue could not be asked, or "".
    """

    cells: list[CellPlace]
    submissions: list[Submission]
    trouble: str


def look(suite_run: SuiteRun) -> Overview:
    """Where the cells of a suite stand now."""
    made = submissions(suite_run.folder)
    queue: list[QueuedJob] = []
    trouble = ""
    if any(submission.settings.executor == "slurm" for submission in made):
        if slurm_is_here():
            try:
                queue = queued_jobs(job_name(suite_run.suite.name))
            except UserError as error:
                trouble = str(error)
        else:
            trouble = "SLURM's commands are not here"
    jobs = _jobs(made, queue)
    cancelled = {submission.path.name: submission.cancelled() for submission in made}
    there = _folders(suite_run.folder)
    thorough = len(suite_run.runs) <= THOROUGH_CELLS
    cells = []
    for folder in suite_run.runs:
        exists = folder.path.name in there
        status = CellStatus(State.NOT_STARTED)
        if exists:
            status = folder.status() if thorough else folder.glance()
        job = jobs.get(folder.key)
        off = job is not None and folder.key in cancelled[job.submission.path.name]
        cells.append(_place(folder, status, job, off, bool(made), bool(trouble)))
    return Overview(cells, made, trouble)


def _place(
    folder: RunFolder,
    status: CellStatus,
    job: Job | None,
    cancelled: bool,
    any_submission: bool,
    queue_unknown: bool,
) -> CellPlace:
    if status.state in (*FINISHED, State.DAMAGED):
        return CellPlace(folder, Place(status.state.value), status, job, status.message)
    if job is None:
        fresh = status.state == State.NOT_STARTED and any_submission
        place = Place.NOT_SUBMITTED if fresh else Place(status.state.value)
        return CellPlace(folder, place, status, None, status.message)
    history = [
        one for one in tries.read_tries(folder.path) if one.submission == job.submission.path.name
    ]
    restarts = max((one.restart for one in history), default=0)
    if status.state == State.RUNNING:
        return CellPlace(folder, Place.RUNNING, status, job, status.message, restarts)
    if job.alive and not cancelled and not _given_up(status, history, job):
        return _in_queue(folder, status, job, history, restarts)
    if cancelled:
        return CellPlace(folder, Place.CANCELLED, status, job, "", restarts)
    if status.state == State.FAILED:
        note = status.message + (f" ({len(history)} tries)" if len(history) > 1 else "")
        return CellPlace(folder, Place.FAILED, status, job, note, restarts)
    if queue_unknown:
        place, note = Place.PENDING, f"job {job.id}, last heard of at submission"
        return CellPlace(folder, place, status, job, note, restarts)
    if history and history[-1].end == tries.STOPPED:
        return CellPlace(folder, Place.STOPPED, status, job, f"job {job.id} has ended", restarts)
    return CellPlace(folder, Place.LOST, status, job, _last_words(job), restarts)


def _given_up(status: CellStatus, history: list[tries.Try], job: Job) -> bool:
    """Whether a failed cell's job, though alive, will not try it again."""
    if status.state != State.FAILED or not history:
        return False
    bad = sum(one.end in (tries.FAILED, tries.KILLED) for one in history)
    return history[-1].end == tries.REFUSED or bad >= job.submission.settings.tries


def _in_queue(
    folder: RunFolder, status: CellStatus, job: Job, history: list[tries.Try], restarts: int
) -> CellPlace:
    queued = job.queued
    told = f"job {job.id}"
    if queued is not None and queued.state == "PENDING":
        told += f": {queued.reason}" if queued.reason not in ("", "None") else ""
        same = [one for one in history if one.job == job.id]
        if same:
            return CellPlace(folder, Place.REQUEUED, status, job, told, restarts + 1)
        return CellPlace(folder, Place.PENDING, status, job, told)
    if queued is not None and job.cells == 1:
        told += f" on {queued.node}" if queued.node else ""
        return CellPlace(folder, Place.STARTING, status, job, told, restarts)
    return CellPlace(folder, Place.PENDING, status, job, f"{told}: behind its job's others")


def _jobs(made: list[Submission], queue: list[QueuedJob]) -> dict[str, Job]:
    """The last job of each cell, by the cell's key."""
    by_comment: dict[str, dict[int, QueuedJob]] = defaultdict(dict)
    for queued in queue:
        index = queued.job.partition("_")[2]
        by_comment[queued.comment][int(index or 0)] = queued
    jobs = {}
    for submission in made:
        for array in submission.arrays():
            there = by_comment.get(array.comment, {})
            for index, keys in enumerate(array.jobs):
                queued = there.get(index)
                alive = queued is not None
                if array.owner:
                    alive = local_job_lives(array.owner[index])
                if array.ids:
                    name = array.ids[index]
                elif queued is not None:
                    name = queued.job
                else:
                    # Planned, but SLURM never got it.
                    continue
                job = Job(name, submission, queued, alive, len(keys))
                jobs.update(dict.fromkeys(keys, job))
    return jobs


def _folders(suite_folder: Path) -> set[str]:
    try:
        with os.scandir(suite_folder) as entries:
            return {entry.name for entry in entries}
    except FileNotFoundError:
        return set()


def _last_words(job: Job) -> str:
    """The last line that a job that ended without a word has written, or that there is none."""
    for path in reversed(job.submission.output(job.id)):
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        except OSError:
            continue
        if lines:
            return f"job {job.id} is gone: {lines[-1].strip()}"
    return f"job {job.id} is gone and has written nothing"
