"""Submitit's executor for SLURM, set up from a submission's settings."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from marginbench.dispatch.slurm.commands import job_name
from marginbench.dispatch.slurm.job import ClusterJob
from marginbench.dispatch.slurm.node_checks import check_python
from marginbench.dispatch.slurm.settings import ClusterSettings
from marginbench.errors import UserError

# What counts is progress, which the job checks; submitit's own limit would end long runs.
MAX_TIMEOUTS = 10**6


def slurm_executor(
    folder: Path,
    suite: str,
    settings: ClusterSettings,
    *,
    comment: str,
    parallel: int,
    after: str | None = None,
) -> submitit.AutoExecutor:
    """An executor for one job array.

    Args:
        folder: for submitit's files; on a file system that the nodes share.
        suite: its name, for the queue.
        settings: what a job asks for.
        comment: written on the jobs.
        parallel: jobs of the array that run at a time.
        after: id of a job array whose end is waited for.
    """
    executor = submitit.AutoExecutor(
        folder=folder, cluster="slurm", slurm_max_num_timeout=MAX_TIMEOUTS
    )
    chosen: dict[str, Any] = {
        "slurm_partition": settings.partition,
        "slurm_account": settings.account,
        "slurm_qos": settings.qos,
        "slurm_constraint": settings.constraint,
        "slurm_dependency": after and f"afterany:{after}",
        "gpus_per_node": settings.gpus or None,
        "mem_gb": settings.mem,
    }
    cpus = settings.cpus * settings.world_size
    executor.update_parameters(
        name=job_name(suite),
        timeout_min=settings.minutes,
        nodes=1,
        # One task, which forks the processes that train a cell together.
        tasks_per_node=1,
        cpus_per_task=cpus,
        slurm_signal_delay_s=settings.grace,
        slurm_array_parallelism=parallel,
        slurm_comment=comment,
        slurm_setup=[*settings.setup, *check_python()],
        # srun does not take this over from the job since SLURM 22.05.
        slurm_srun_args=[f"--cpus-per-task={cpus}"],
        slurm_additional_parameters={"requeue": True, **settings.sbatch},
        **{name: value for name, value in chosen.items() if value is not None},
    )
    return executor


def sbatch_script(executor: submitit.AutoExecutor, jobs: int) -> str:
    """The script that SLURM gets for an array of so many jobs."""
    # What makes the script is no public part of submitit.
    slurm: Any = executor._executor
    if jobs > 1:
        slurm.parameters["map_count"] = jobs
    return slurm._make_submission_file_text(slurm._submitit_command_str, "")


def submit_array(executor: submitit.AutoExecutor, jobs: Sequence[ClusterJob]) -> list[str]:
    """Submit an array to SLURM; the job ids.

    Raises:
        UserError: SLURM refuses; the message is SLURM's.
    """
    try:
        return [job.job_id for job in executor.submit_array(jobs)]
    except (FailedJobError, FailedSubmissionError, subprocess.CalledProcessError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        shown = [line for line in lines if line.startswith("sbatch: error:")] or lines[-1:]
        text = "; ".join(line.removeprefix("sbatch: error: ") for line in shown)
        raise UserError(f"sbatch refuses the jobs: {text}") from None
