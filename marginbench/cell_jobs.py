"""The jobs that a suite's cells were given to, and what can be known of them from here.

Several clusters may share a file system. A job that is not in this cluster's queue is gone only if
it was handed to this cluster; of another one's jobs this queue knows nothing, and the same goes
for the local processes of another machine.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from marginbench.lease import this_host
from marginbench.slurm_commands import QueuedJob, SlurmHere
from marginbench.submissions import COMPLAINT, Submission, local_job_lives

# As long as a job may wait in a busy queue before it starts; a cell that is trained is found
# running by its lease, whatever is known of its job.
STALE_DAYS = 14


@dataclass(frozen=True)
class Job:
    """The last job that a cell was given to.

    Attributes:
        id: the job's.
        submission: whose it is.
        queued: what the queue says of it; None if it is not there.
        alive: whether it is in the queue, or a process of this machine.
        cells: how many it holds.
        owner: of a local process, which one it is.
    """

    id: str
    submission: Submission
    queued: QueuedJob | None
    alive: bool
    cells: int
    owner: dict[str, Any] | None

    def elsewhere(self, slurm: SlurmHere) -> str:
        """Who would know of a job that is not seen from here, "cluster NAME"; else ""."""
        if self.alive:
            return ""
        if self.owner is not None:
            host = self.owner.get("host", "")
            return f"machine {host}" if host != this_host() else ""
        cluster = self.submission.cluster
        return f"cluster {cluster}" if cluster and cluster != slurm.cluster else ""

    @property
    def days_silent(self) -> float:
        """Since a job of its submission has last started or ended, or was submitted."""
        try:
            # Every job that starts or ends leaves a file there.
            changed = self.submission.jobs_folder.stat().st_mtime
        except OSError:
            changed = self.submission.content["submitted"]
        return (time.time() - changed) / 86400

    def last_words(self) -> str:
        """The line of its output that says most of its end, or that there is none."""
        for path in reversed(self.submission.output(self.id)):
            try:
                text = path.read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            lines = [line.strip() for line in text.splitlines() if line.strip()]
            # srun has the last word on every failure, and it is only the exit status.
            telling = [line for line in lines if not line.startswith("srun:")] or lines
            told = [line for line in lines if line.startswith(COMPLAINT)] or telling
            if told:
                return f"job {self.id} is gone: {told[-1].removeprefix(COMPLAINT)}"
        return f"job {self.id} is gone and has written nothing"


def last_jobs(made: list[Submission], queue: list[QueuedJob]) -> dict[str, Job]:
    """The last job of each cell, by the cell's key.

    Args:
        made: submissions, the oldest first.
        queue: what this cluster's queue holds of them.
    """
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
                owner = array.owner[index] if array.owner else None
                if owner is not None:
                    alive = local_job_lives(owner)
                if array.ids:
                    name = array.ids[index]
                elif queued is not None:
                    name = queued.job
                else:
                    # Planned, but SLURM never got it.
                    continue
                job = Job(name, submission, queued, alive, len(keys), owner)
                jobs.update(dict.fromkeys(keys, job))
    return jobs
