"""Jobs as processes of this machine: they go on when the terminal they were started from closes."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from submitit.core.core import R
from submitit.local.local import LocalExecutor, LocalJob

from marginbench.dispatch.slurm.executor import MAX_TIMEOUTS
from marginbench.dispatch.slurm.job import ClusterJob
from marginbench.dispatch.slurm.settings import ClusterSettings
from marginbench.errors import UserError

_SECONDS_OF_A_YEAR = 60 * 60 * 24 * 365


class DetachedExecutor(LocalExecutor):
    """Submitit's, but each process has a session of its own, and no terminal or pipe of ours.

    Args:
        folder: for submitit's files, the output among them.
        setup: shell lines before Python starts.
        gpus: numbers of the GPUs that the jobs may use.
    """

    def __init__(self, folder: Path, setup: Sequence[str], gpus: Sequence[int]) -> None:
        super().__init__(folder, max_num_timeout=MAX_TIMEOUTS)
        self._setup = setup
        self._gpus = gpus

    def _submit_command(self, command: str) -> LocalJob[R]:
        """Start submitit's controller of a job, as submitit's ``start_controller`` does."""
        controller = shlex.join([sys.executable, "-m", "submitit.local._local", str(self.folder)])
        process = subprocess.Popen(
            " && ".join([*self._setup, controller]) if self._setup else shlex.split(controller),
            shell=bool(self._setup),
            env=os.environ
            | {
                "CUDA_VISIBLE_DEVICES": ",".join(map(str, self._gpus)),
                # As in a job of SLURM: nothing is imported from the current folder.
                "PYTHONSAFEPATH": "1",
                "SUBMITIT_EXECUTOR": "local",
                "SUBMITIT_LOCAL_COMMAND": command,
                "SUBMITIT_LOCAL_JOB_NUM_NODES": "1",
                "SUBMITIT_LOCAL_NODEID": "0",
                "SUBMITIT_LOCAL_NTASKS": "1",
                "SUBMITIT_LOCAL_SIGNAL_DELAY_S": "30",
                "SUBMITIT_LOCAL_TIMEOUT_S": str(_SECONDS_OF_A_YEAR),
                "SUBMITIT_LOCAL_WITH_SHELL": "1" if self._setup else "",
                "SUBMITIT_STDERR_TO_STDOUT": "",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        return LocalJob(folder=self.folder, job_id=str(process.pid), process=process)


def start_local_jobs(
    folder: Path, settings: ClusterSettings, jobs: Sequence[ClusterJob]
) -> list[str]:
    """Start jobs as processes of this machine that outlive this one; the process numbers.

    The n-th gets GPU n modulo their number, or as many as it asks for from there on.
    """
    gpus = local_gpus() if settings.gpus else []
    ids = []
    for number, job in enumerate(jobs):
        first = number * settings.gpus
        own = {gpus[(first + offset) % len(gpus)] for offset in range(settings.gpus)}
        executor = DetachedExecutor(folder, settings.setup, sorted(own))
        ids.append(executor.submit(job).job_id)
    return ids


def local_gpus() -> list[int]:
    """The numbers of this machine's NVIDIA GPUs that may be used, asked without torch.

    Raises:
        UserError: CUDA_VISIBLE_DEVICES names them otherwise than by numbers.
    """
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen == "" or shutil.which("nvidia-smi") is None:
        return []
    done = subprocess.run(
        ["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=False
    )
    there = range(done.stdout.count("GPU ") if done.returncode == 0 else 0)
    if chosen is None:
        return list(there)
    names = [name.strip() for name in chosen.split(",")]
    if not all(name.isdecimal() for name in names):
        raise UserError(
            f"CUDA_VISIBLE_DEVICES = {chosen!r} is not allowed for local jobs; allowed: numbers, "
            "as `nvidia-smi --list-gpus` has them"
        )
    return [int(name) for name in names if int(name) in there]
