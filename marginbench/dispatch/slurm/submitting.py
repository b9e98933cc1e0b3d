"""Submitting cells: to SLURM as job arrays, or to processes of this machine."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import dataclass
from pathlib import Path

from marginbench.dispatch.slurm.array_plan import batches, plan_arrays
from marginbench.dispatch.slurm.commands import SlurmLimits, queue_length
from marginbench.dispatch.slurm.settings import ClusterSettings
from marginbench.dispatch.slurm.submission import Submission
from marginbench.errors import UserError
from marginbench.runs.lease import Lease
from marginbench.runs.process_identity import process_identity
from marginbench.runs.run_folder import RunFolder
from marginbench.text import count


@dataclass(frozen=True)
class Submitted:
    """What became of cells that were to be submitted.

    Attributes:
        cells: how many were.
        ids: of their job arrays, or local jobs.
        problem: why the others were not, or "".
    """

    cells: int
    ids: list[str]
    problem: str = ""


def submit_arrays(
    submission: Submission,
    suite: str,
    settings: ClusterSettings,
    limits: SlurmLimits,
    todo: list[RunFolder],
    lease: Lease,
) -> Submitted:
    """Cut cells into job arrays and submit them to SLURM, as many as its queue has room for.

    ``lease`` is on the suite's submissions.

    Raises:
        UserError: the queue is full, or SLURM refuses the first array; the submission is removed.
        LeaseLost: another submitter took over.
    """
    from marginbench.dispatch.slurm.executor import slurm_executor, submit_array
    from marginbench.dispatch.slurm.job import ClusterJob

    jobs = batches(todo, settings.cells_per_job)
    fitting = jobs[: max(0, limits.queue_size - queue_length())]
    full = f"the cluster's queue is full (MaxJobCount = {limits.queue_size})"
    if not fitting:
        shutil.rmtree(submission.path)
        raise UserError(f"{full}; submit again later")
    arrays = plan_arrays(len(fitting), limits.array_size, settings.max_parallel)
    remaining = iter(fitting)
    ids: list[str] = []
    cells = 0
    for number, (size, slot) in enumerate(arrays):
        part = list(itertools.islice(remaining, size))
        # Another submitter may have taken over while this one was frozen.
        lease.check()
        array = submission.plan(number, part)
        executor = slurm_executor(
            submission.jobs_folder,
            suite,
            settings,
            comment=array.comment,
            parallel=slot.parallel,
            after=None if slot.after is None else ids[slot.after],
        )
        try:
            cluster_jobs = [ClusterJob(str(submission.path), number, i) for i in range(size)]
            job_ids = submit_array(executor, cluster_jobs, settings)
        except UserError as error:
            if number == 0:
                shutil.rmtree(submission.path)
                raise
            return Submitted(cells, ids, str(error))
        submission.note_ids(array, job_ids)
        ids.append(job_ids[0].partition("_")[0])
        cells += sum(len(job) for job in part)
    return Submitted(cells, ids, full if cells < len(todo) else "")


def submit_locally(
    submission: Submission, settings: ClusterSettings, todo: list[RunFolder]
) -> Submitted:
    """Start processes on this machine that train the cells."""
    from marginbench.dispatch.slurm.job import ClusterJob
    from marginbench.dispatch.slurm.local_executor import start_local_jobs

    number = min(settings.max_parallel or _local_jobs(settings), len(todo))
    # Each job trains its share, since nothing here queues jobs.
    array = submission.plan(0, [todo[i::number] for i in range(number)])
    jobs = [ClusterJob(str(submission.path), 0, i) for i in range(number)]
    ids = start_local_jobs(submission.jobs_folder, settings, jobs)
    submission.note_ids(array, ids, [process_identity(int(name)) for name in ids])
    return Submitted(len(todo), ids)


def _local_jobs(settings: ClusterSettings) -> int:
    """How many jobs this machine's GPUs, or else its CPU cores, suffice for; at least one."""
    from marginbench.dispatch.local import default_workers
    from marginbench.dispatch.slurm.local_executor import local_gpus

    if settings.gpu_count:
        return max(1, len(local_gpus()) // settings.gpu_count)
    return max(1, default_workers("cpu") // (settings.processes or 1))


def check_path(folder: Path) -> None:
    """Make sure that nothing in the path of a job's files is a pattern to SLURM or submitit.

    Raises:
        UserError: it has "%", a backslash or a character that cannot be printed.
    """
    path = str(folder.absolute())
    if not path.isprintable() or any(character in path for character in "%\\"):
        raise UserError(
            f"--runs = {path!r} is not allowed for jobs; allowed: a path without '%', "
            "backslashes and control characters, which stand for something else in job files"
        )


def check_local(settings: ClusterSettings) -> None:
    """Make sure that local processes find the GPUs that they are to train on.

    Raises:
        UserError: there are too few.
    """
    if settings.executor == "local" and settings.gpu_count:
        from marginbench.dispatch.slurm.local_executor import local_gpus

        there = len(local_gpus())
        if settings.gpu_count > there:
            raise UserError(
                f"gpus = {settings.gpus} is not allowed: this machine has "
                f"{count(there, 'NVIDIA GPU')}; allowed here: --gpus 0"
                + (f" to {there}" if there else "")
            )
