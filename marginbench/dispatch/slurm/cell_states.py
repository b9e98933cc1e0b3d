"""Where a suite's cells stand: on disk first, in the queue second.

One look asks SLURM once, whatever the number of jobs, and reads the run folders after that: a
cell that ends in between is found done.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from marginbench.dispatch.slurm.commands import (
    QueuedJob,
    SlurmHere,
    job_name,
    queued_jobs,
    slurm_is_here,
)
from marginbench.dispatch.slurm.jobs import STALE_DAYS, Job, all_jobs, last_jobs
from marginbench.dispatch.slurm.submissions import Submission, submissions
from marginbench.errors import UserError
from marginbench.runs import attempts
from marginbench.runs.glances import glance
from marginbench.runs.run_folder import FINISHED, CellStatus, RunFolder, State
from marginbench.runs.suite_runs import SuiteRun
from marginbench.text import count


class Place(StrEnum):
    """What has become of a cell, its job included."""

    DONE = "done"
    DIVERGED = "diverged"
    RUNNING = "running"
    STARTING = "starting"
    PENDING = "pending"
    REQUEUED = "requeued"
    ELSEWHERE = "elsewhere"
    FAILED = "failed"
    DAMAGED = "damaged"
    LOST = "lost"
    CANCELLED = "cancelled"
    STOPPED = "stopped"
    NOT_SUBMITTED = "not submitted"
    NOT_STARTED = "not started"


LEFT = "left the suite"
# Up to so many cells, the files of finished ones are read whole, to find damage.
THOROUGH_CELLS = 500
IN_QUEUE = (Place.STARTING, Place.PENDING, Place.REQUEUED)
# What may still change without a further command.
ACTIVE = (*IN_QUEUE, Place.RUNNING, Place.ELSEWHERE)


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
        elsewhere: who would know of its job, "cluster NAME"; "" if that can be known here.
    """

    folder: RunFolder
    place: Place
    status: CellStatus
    job: Job | None
    note: str = ""
    requeues: int = 0
    elsewhere: str = ""


@dataclass(frozen=True)
class Overview:
    """All cells of a suite at one moment.

    Attributes:
        asked: those asked for, in the suite's order.
        further, left: submitted besides, as :class:`marginbench.runs.suite_runs.SuiteRun` has them.
        jobs: all that were ever submitted, whatever cells they hold, the oldest first.
        submissions: all there are, the oldest first.
        trouble: why the queue could not be asked, or "".
        thorough: whether the files of each cell were read whole.
    """

    asked: list[CellPlace]
    further: list[CellPlace]
    left: list[CellPlace]
    jobs: list[Job]
    submissions: list[Submission]
    trouble: str
    thorough: bool

    @property
    def cells(self) -> list[CellPlace]:
        """The suite's: those asked for, and those of further seeds that were submitted."""
        return self.asked + self.further

    @property
    def known(self) -> list[CellPlace]:
        """The suite's, and those that have left it."""
        return self.cells + self.left


def look(suite_run: SuiteRun, slurm: SlurmHere | None = None) -> Overview:
    """Where the cells of a suite stand now.

    Args:
        suite_run: the suite's cells.
        slurm: what is known already of the cluster that this machine belongs to.

    Raises:
        UserError: the suite's folder cannot be read.
    """
    slurm = slurm or SlurmHere()
    made = submissions(suite_run.folder)
    queue: list[QueuedJob] = []
    trouble = ""
    if any(made_one.settings.executor == "slurm" for made_one in made) and slurm_is_here():
        try:
            queue = queued_jobs(job_name(suite_run.suite.name))
        except UserError as error:
            trouble = str(error)
    jobs = all_jobs(made, queue)
    last = last_jobs(jobs)
    cancelled = {submission.path.name: submission.cancelled() for submission in made}
    there = _folders(suite_run.folder)
    parts = (suite_run.runs, suite_run.further, suite_run.left)
    thorough = sum(map(len, parts)) <= THOROUGH_CELLS

    def place(folder: RunFolder) -> CellPlace:
        exists = folder.path.name in there
        status = CellStatus(State.NOT_STARTED)
        if exists:
            status = folder.status() if thorough else glance(folder)
        job = last.get(folder.key)
        off = job is not None and folder.key in cancelled[job.submission.path.name]
        return _place(folder, status, job, slurm, off, bool(made), bool(trouble))

    asked, further, left = ([place(folder) for folder in part] for part in parts)
    left = [replace(cell, note=f"{LEFT}, {cell.note}".removesuffix(", ")) for cell in left]
    return Overview(asked, further, left, jobs, made, trouble, thorough)


def _place(
    folder: RunFolder,
    status: CellStatus,
    job: Job | None,
    slurm: SlurmHere,
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
    history = attempts.read_attempts(folder.path, job.submission.path.name)
    restarts = max((one.restart for one in history), default=0)
    elsewhere = "" if queue_unknown else job.elsewhere(slurm)
    if status.state == State.RUNNING:
        note = status.message
        return CellPlace(folder, Place.RUNNING, status, job, note, restarts, elsewhere)
    over = cancelled or _given_up(status, history, job)
    if job.alive and not over:
        return _in_queue(folder, status, job, history, restarts)
    if elsewhere and not over:
        if job.days_silent < STALE_DAYS:
            note = f"job {job.id} of {elsewhere}"
            return CellPlace(folder, Place.ELSEWHERE, status, job, note, restarts, elsewhere)
        note = f"job {job.id} of {elsewhere} has shown no life for {STALE_DAYS} days"
        return CellPlace(folder, Place.LOST, status, job, note, restarts)
    if cancelled:
        return CellPlace(folder, Place.CANCELLED, status, job, "", restarts)
    if status.state == State.FAILED:
        note = status.message + (f" ({len(history)} attempts)" if len(history) > 1 else "")
        return CellPlace(folder, Place.FAILED, status, job, note, restarts)
    if queue_unknown:
        place, note = Place.PENDING, f"job {job.id}, last heard of at submission"
        return CellPlace(folder, place, status, job, note, restarts)
    if history and history[-1].end == attempts.STOPPED:
        return CellPlace(folder, Place.STOPPED, status, job, f"job {job.id} has ended", restarts)
    return CellPlace(folder, Place.LOST, status, job, job.last_words(), restarts)


def _given_up(status: CellStatus, history: list[attempts.Attempt], job: Job) -> bool:
    """Whether a failed cell's job, though it may be alive, will make no further attempt at it."""
    if status.state != State.FAILED or not history:
        return False
    bad = sum(one.end in (attempts.FAILED, attempts.KILLED) for one in history)
    return history[-1].end == attempts.REFUSED or bad >= job.submission.settings.attempts


def _in_queue(
    folder: RunFolder, status: CellStatus, job: Job, history: list[attempts.Attempt], restarts: int
) -> CellPlace:
    queued = job.queued
    told = f"job {job.id}"
    if queued is not None and queued.state == "PENDING":
        told += f": {queued.reason}" if queued.reason not in ("", "None") else ""
        same = [one for one in history if one.job == job.id]
        if same:
            return CellPlace(folder, Place.REQUEUED, status, job, told, restarts + 1)
        return CellPlace(folder, Place.PENDING, status, job, told)
    if queued is not None and len(job.keys) == 1:
        told += f" on {queued.node}" if queued.node else ""
        return CellPlace(folder, Place.STARTING, status, job, told, restarts)
    return CellPlace(folder, Place.PENDING, status, job, f"{told}: behind its job's others")


def _folders(suite_folder: Path) -> set[str]:
    try:
        with os.scandir(suite_folder) as entries:
            return {entry.name for entry in entries}
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise UserError(f"{suite_folder} cannot be read: {error.strerror}") from None


def told_left(overview: Overview) -> list[str]:
    """Of cells that were submitted and have left the suite: where they stand, and what may be done.

    What has ended is only counted.
    """
    if not overview.left:
        return []
    places = Counter(cell.place for cell in overview.left)
    told = ", ".join(f"{places[place]} {place}" for place in Place if places[place])
    number = count(len(overview.left), "cell")
    line = f"{LEFT} since submission, or came by --head or --plugin: {number}: {told}"
    if any(places[place] for place in ACTIVE):
        line += "; `cancel` with their names, which `status` lists, ends them"
    return [line]


def told_elsewhere(overview: Overview) -> list[str]:
    """Of cells whose jobs cannot be seen from here: where to ask, and how to have them here."""
    where = Counter(cell.elsewhere for cell in overview.cells if cell.place == Place.ELSEWHERE)
    return [
        f"{count(number, 'cell')} given to {name}, whose jobs are not seen from here: ask there; "
        "to train them here instead, `cancel` them and submit again"
        for name, number in where.items()
    ]
