"""The jobs that a suite's cells were submitted in, and what can be known of them from here.

Several clusters may share a file system. A job that is not in this cluster's queue is gone only if
it was submitted to this cluster; of another one's jobs this queue knows nothing, and the same goes
for the local processes of another host.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marginbench.dispatch.slurm.commands import LocalSlurm, QueuedJob
from marginbench.dispatch.slurm.node_checks import NODE_ERROR
from marginbench.dispatch.slurm.submission import Array, Submission
from marginbench.errors import DamagedFile
from marginbench.files import read_regular
from marginbench.runs.cell_status import FINISHED
from marginbench.runs.process_identity import process_lives, this_host, this_machine
from marginbench.runs.quick_status import quick_status
from marginbench.runs.run_folder import RunFolder

# As long as a job may wait in a busy queue before it starts; a cell that is trained is found
# running by its lease, whatever is known of its job.
STALE_DAYS = 14


@dataclass(frozen=True)
class Job:
    """A job that cells were submitted in.

    Attributes:
        id: the job's.
        array: whose it is, as submitted.
        index: of the job in the array.
        queued: its line in the queue; None if it is not there.
        alive: whether it is in the queue, or a process of this machine.
    """

    id: str
    array: Array
    index: int
    queued: QueuedJob | None
    alive: bool

    @property
    def submission(self) -> Submission:
        return self.array.submission

    @property
    def keys(self) -> list[str]:
        """The keys of all its cells."""
        return self.array.jobs[self.index]

    @property
    def owner(self) -> dict[str, Any] | None:
        """Of a local process, which one it is."""
        return self.array.owner[self.index] if self.array.owner else None

    def remote_owner(self, slurm: LocalSlurm) -> str:
        """Of a job that is not seen from here: "cluster NAME" or "host NAME"; else ""."""
        if self.alive:
            return ""
        if self.owner is not None:
            host = self.owner.get("host", "")
            return f"host {host}" if host != this_host() else ""
        cluster = self.submission.content.cluster
        return f"cluster {cluster}" if cluster and cluster != slurm.cluster else ""

    @property
    def days_silent(self) -> float:
        """Since a job of its submission has last started or ended, or was submitted."""
        try:
            # Every job that starts or ends leaves a file there.
            changed = self.submission.jobs_folder.stat().st_mtime
        except OSError:
            changed = self.submission.content.submitted
        return (time.time() - changed) / 86400

    def last_output(self) -> str:
        """The line of its output that says most about its end, or that there is none."""
        for path in reversed(self.submission.output(self.id)):
            try:
                text = read_regular(path).decode(errors="replace")
            except OSError:
                continue
            lines = [line.strip() for line in text.splitlines() if line.strip()]
            # srun writes the last line on every failure, and it is only the exit status.
            informative = [line for line in lines if not line.startswith("srun:")] or lines
            chosen = [line for line in lines if line.startswith(NODE_ERROR)] or informative
            if chosen:
                return f"job {self.id} is gone: {chosen[-1].removeprefix(NODE_ERROR)}"
        return f"job {self.id} is gone and has written nothing"


def all_jobs(found: list[Submission], queue: list[QueuedJob]) -> list[Job]:
    """The jobs of submissions, those that have ended too, in the submissions' order."""
    by_comment: dict[str, dict[int, QueuedJob]] = defaultdict(dict)
    for entry in queue:
        number = entry.job.partition("_")[2]
        # What stands before is the user's.
        mark = " ".join(entry.comment.rsplit(maxsplit=3)[-3:])
        by_comment[mark][int(number or 0)] = entry
    jobs = []
    for array in (array for submission in found for array in submission.arrays()):
        for index in range(len(array.jobs)):
            queued = by_comment[array.comment].get(index)
            alive = _is_alive(array.owner[index]) if array.owner else queued is not None
            name = array.ids[index] if array.ids else queued.job if queued is not None else None
            # Without an id in the file or in the queue, it was planned, but never submitted.
            if name is not None:
                jobs.append(Job(name, array, index, queued, alive))
    return jobs


def _is_alive(owner: dict[str, Any]) -> bool:
    """Whether a local job runs; only this machine's processes can be seen."""
    return owner.get("machine") == this_machine() and process_lives(owner)


def jobs_of_only(jobs: list[Job], keys: set[str]) -> list[str]:
    """The ids of the jobs in the queue that have nothing to do but these cells.

    The arrays as submitted decide, whatever cells are asked for: a job that also holds
    another cell is left out, unless that cell is finished or was cancelled before. Of an array
    all of whose jobs hold none but these cells, there is the array's one id.
    """
    by_array: dict[Path, list[Job]] = defaultdict(list)
    for job in jobs:
        if not keys.isdisjoint(job.keys):
            by_array[job.array.path].append(job)
    ids = []
    for members in by_array.values():
        array = members[0].array
        marked = keys | array.submission.cancelled()
        waiting = [job for job in members if job.queued is not None]
        if len(members) == len(array.jobs) and all(marked.issuperset(job.keys) for job in members):
            ids += [job.id.partition("_")[0] for job in waiting[:1]]
        else:
            going_on = _with_others(waiting, marked)
            ids += [job.id for job in waiting if job.index not in going_on]
    return ids


def _with_others(jobs: list[Job], marked: set[str]) -> set[int]:
    """Of the jobs of an array, those with a cell to be trained beside the marked ones; indices.

    So counts a job whose cells cannot be read.
    """
    mixed = {job.index for job in jobs if not marked.issuperset(job.keys)}
    if not mixed:
        return set()
    array = jobs[0].array
    try:
        cells = array.submission.cells_of_jobs(array.number, mixed)
    except DamagedFile:
        return mixed
    folder = array.submission.suite_folder
    others = ([RunFolder(folder, cell) for cell in job if cell.key not in marked] for job in cells)
    return {
        index
        for index, runs in zip(sorted(mixed), others, strict=True)
        if any(quick_status(run).state not in FINISHED for run in runs)
    }
