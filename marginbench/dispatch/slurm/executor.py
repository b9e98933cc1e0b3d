"""Submitit's executor for SLURM, set up from a submission's settings."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from marginbench.dispatch.slurm.commands import job_name, slurm_environment
from marginbench.dispatch.slurm.job import ClusterJob
from marginbench.dispatch.slurm.node_checks import check_python
from marginbench.dispatch.slurm.sbatch_options import (
    COMMENT,
    overriding_variables,
    script_options,
)
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
        comment: written on the jobs, after the user's own.
        parallel: jobs of the array that run at a time.
        after: id of a job array whose end is waited for.
    """
    executor = submitit.AutoExecutor(
        folder=folder,
        cluster="slurm",
        slurm_max_num_timeout=MAX_TIMEOUTS,
        slurm_python=shlex.join(settings.python) or None,
    )
    options = {"requeue": True, **settings.sbatch}
    # After the user's own: jobs are found by what it ends with.
    options[COMMENT] = f"{options.get(COMMENT, '')} {comment}".strip()
    srun_args = [f"--cpus-per-task={settings.cpus * settings.world_size}"]
    if "export" in options or "SBATCH_EXPORT" in os.environ:
        # That is for the script; srun would hide from Python what `setup` exports.
        srun_args.append("--export=ALL")
    chosen: dict[str, Any] = {
        "slurm_partition": settings.partition,
        "slurm_account": settings.account,
        "slurm_qos": settings.qos,
        "slurm_constraint": settings.constraint,
        "slurm_dependency": after and f"afterany:{after}",
        "slurm_gpus_per_node": settings.gpus or None,
        "mem_gb": settings.mem,
    }
    executor.update_parameters(
        name=job_name(suite),
        timeout_min=settings.minutes,
        nodes=1,
        # One task, which forks the processes that train a cell together.
        tasks_per_node=1,
        cpus_per_task=settings.cpus * settings.world_size,
        slurm_signal_delay_s=settings.grace,
        slurm_array_parallelism=parallel,
        slurm_setup=[*settings.setup, *check_python(settings.python)],
        # srun does not take the cores over from the job since SLURM 22.05.
        slurm_srun_args=[*srun_args, *settings.srun_args],
        slurm_additional_parameters={n: _quoted(v) for n, v in script_options(options).items()},
        **{name: _quoted(value) for name, value in chosen.items() if value is not None},
    )
    return executor


def _quoted(value: Any) -> Any:
    """For sbatch, which unlike the shell takes a backslash for an escape between single quotes."""
    return value.replace("\\", r"\\") if isinstance(value, str) else value


def sbatch_script(executor: submitit.AutoExecutor, jobs: int) -> str:
    """The script that SLURM gets for an array of so many jobs."""
    # What makes the script is no public part of submitit.
    slurm: Any = executor._executor
    if jobs > 1:
        slurm.parameters["map_count"] = jobs
    return slurm._make_submission_file_text(slurm._submitit_command_str, "")


def submit_array(
    executor: submitit.AutoExecutor, jobs: Sequence[ClusterJob], settings: ClusterSettings
) -> list[str]:
    """Submit an array to SLURM, whatever variables of SLURM's commands are set; the job ids.

    Raises:
        UserError: SLURM refuses; the message is SLURM's.
    """
    try:
        with slurm_environment(overriding_variables(settings.model_dump())):
            return [job.job_id for job in executor.submit_array(jobs)]
    except (FailedJobError, FailedSubmissionError, subprocess.CalledProcessError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        shown = [line for line in lines if line.startswith("sbatch: error:")] or lines[-1:]
        text = "; ".join(line.removeprefix("sbatch: error: ") for line in shown)
        raise UserError(f"sbatch refuses the jobs: {text}") from None
