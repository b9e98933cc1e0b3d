"""Handing cells over: to SLURM as job arrays, or to processes of this machine."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from marginbench.dispatch.slurm.array_plan import plan_arrays
from marginbench.dispatch.slurm.commands import SlurmLimits, queue_length
from marginbench.dispatch.slurm.settings import ClusterSettings
from marginbench.dispatch.slurm.submissions import Submission
from marginbench.errors import UserError
from marginbench.runs.lease import Lease
from marginbench.runs.process_identity import process_identity
from marginbench.runs.run_folder import RunFolder
from marginbench.runs.suite_runs import SuiteRun
from marginbench.text import count


def hand_over(
    console: Console,
    submission: Submission,
    suite_run: SuiteRun,
    settings: ClusterSettings,
    limits: SlurmLimits,
    todo: list[RunFolder],
    lease: Lease,
) -> int:
    """Cut cells into job arrays and hand them to SLURM, as many as its queue has room for.

    Args:
        console: for what is told.
        submission: whose jobs they become.
        suite_run, settings, limits: of the suite, of a job, of the cluster.
        todo: run folders of the cells.
        lease: on the suite's submissions.

    Returns:
        Exit status: 0, or 1 if not all of them could be handed over.

    Raises:
        UserError: the queue is full, or SLURM refuses the first array; the submission is removed.
        LeaseLost: another submitter took over.
    """
    from marginbench.dispatch.slurm.executor import slurm_executor, submit_array
    from marginbench.dispatch.slurm.job import ClusterJob

    jobs = batches(todo, settings.cells_per_job)
    room = max(0, limits.queue_size - queue_length())
    fitting = jobs[:room]
    if not fitting:
        shutil.rmtree(submission.path)
        raise UserError(
            f"the cluster's queue is full (MaxJobCount = {limits.queue_size}); submit again later"
        )
    arrays = plan_arrays(len(fitting), limits.array_size, settings.max_parallel)
    parts = iter(fitting)
    ids: list[str] = []
    handed = 0
    trouble = ""
    for number, (size, slot) in enumerate(arrays):
        part = list(itertools.islice(parts, size))
        # Another submitter may have taken over while this one was frozen.
        lease.check()
        array = submission.plan(number, part)
        executor = slurm_executor(
            submission.jobs_folder,
            suite_run.suite.name,
            settings,
            comment=array.comment,
            parallel=slot.parallel,
            after=None if slot.after is None else ids[slot.after],
        )
        try:
            got = submit_array(
                executor, [ClusterJob(str(submission.path), number, i) for i in range(size)]
            )
        except UserError as error:
            if number == 0:
                shutil.rmtree(submission.path)
                raise
            trouble = str(error)
            break
        submission.note_ids(array, got)
        ids.append(got[0].partition("_")[0])
        handed += sum(len(job) for job in part)
    console.print(
        f"submitted {count(handed, 'cell')} in {count(len(ids), 'job array')}: {', '.join(ids)}",
        highlight=False,
    )
    if handed < len(todo):
        reason = trouble or f"the cluster's queue is full (MaxJobCount = {limits.queue_size})"
        console.print(
            f"[yellow]{len(todo) - handed} not submitted[/]: {escape(reason)}; "
            "submit again when the queue has room",
            highlight=False,
        )
        return 1
    return 0


def start_here(
    console: Console, submission: Submission, settings: ClusterSettings, todo: list[RunFolder]
) -> int:
    """Start processes on this machine that work through the cells; the exit status."""
    from marginbench.dispatch.slurm.job import ClusterJob
    from marginbench.dispatch.slurm.local_executor import start_local_jobs

    number = min(settings.max_parallel or _room_here(settings), len(todo))
    # Each job works through its share, since nothing here queues jobs.
    jobs = [todo[i::number] for i in range(number)]
    array = submission.plan(0, jobs)
    work = [ClusterJob(str(submission.path), 0, i) for i in range(number)]
    ids = start_local_jobs(submission.jobs_folder, settings, work)
    submission.note_ids(array, ids, [process_identity(int(name)) for name in ids])
    console.print(
        f"started {count(len(todo), 'cell')} in {count(len(ids), 'local job')}", highlight=False
    )
    return 0


def _room_here(settings: ClusterSettings) -> int:
    """How many jobs this machine's GPUs, or else its CPU cores, suffice for; at least one."""
    from marginbench.dispatch.local import default_workers
    from marginbench.dispatch.slurm.local_executor import local_gpus

    if settings.gpus:
        return max(1, local_gpus() // settings.gpus)
    return max(1, default_workers("cpu") // (settings.processes or 1))


def check_local(settings: ClusterSettings) -> None:
    """Make sure that local processes find the GPUs that they are to train on.

    Raises:
        UserError: there are too few.
    """
    if settings.executor == "local" and settings.gpus:
        from marginbench.dispatch.slurm.local_executor import local_gpus

        there = local_gpus()
        if settings.gpus > there:
            raise UserError(
                f"gpus = {settings.gpus} is not allowed: this machine has "
                f"{count(there, 'NVIDIA GPU')}; allowed here: --gpus 0"
                + (f" to {there}" if there else "")
            )


def batches(todo: Sequence[RunFolder], size: int) -> list[list[RunFolder]]:
    """The cells of each job."""
    return [list(todo[start : start + size]) for start in range(0, len(todo), size)]
