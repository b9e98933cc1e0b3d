"""Jobs as processes of this machine: they go on when the terminal they were started from closes."""

from __future__ import annotations

import os
import re
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
from marginbench.text import count

_SECONDS_OF_A_YEAR = 60 * 60 * 24 * 365


class DetachedExecutor(LocalExecutor):
    """Submitit's, but each process has a session of its own, and no terminal or pipe of ours.

    Args:
        folder: for submitit's files, the output among them.
        setup: shell lines before Python starts.
        gpus: numbers or names of the GPUs that the jobs may use.
        python: the command that starts their Python; () for this one.
    """

    def __init__(
        self,
        folder: Path,
        setup: Sequence[str],
        gpus: Sequence[int | str],
        python: Sequence[str] = (),
    ) -> None:
        super().__init__(folder, MAX_TIMEOUTS, python=shlex.join(python) or None)
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
    gpus = local_gpus() if settings.gpu_count else []
    ids = []
    for number, job in enumerate(jobs):
        first = number * settings.gpu_count
        own = [gpus[(first + offset) % len(gpus)] for offset in range(settings.gpu_count)]
        executor = DetachedExecutor(folder, settings.setup, own, settings.python)
        ids.append(executor.submit(job).job_id)
    return ids


_LISTED = re.compile(r"(?:GPU (\d+):|  +MIG ).*?(?:\(UUID: (\S+)\)|$)")


def parse_gpus(text: str) -> list[list[tuple[int, str]]]:
    """What ``nvidia-smi --list-gpus`` prints: of each GPU its number and name, then its slices'.

    A slice (MIG) has the number of its GPU.
    """
    found: list[list[tuple[int, str]]] = []
    for line in text.splitlines():
        listed = _LISTED.match(line)
        if listed and listed[1]:
            found.append([(int(listed[1]), listed[2] or "")])
        elif listed and found:
            found[-1].append((found[-1][0][0], listed[2] or ""))
    return found


def local_gpus() -> list[int | str]:
    """This machine's NVIDIA GPUs that may be used, as CUDA_VISIBLE_DEVICES names them.

    Asked without torch. A GPU has its number, or its name if the variable names it so; a GPU that
    is cut into slices (MIG) is counted as these, by their names. As CUDA takes the variable: the
    first entry that is no GPU ends the list, and an entry named twice makes it empty.

    Raises:
        UserError: CUDA_VISIBLE_DEVICES has a name that no GPU here has, or several begin with.
    """
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen == "" or shutil.which("nvidia-smi") is None:
        return []
    done = subprocess.run(
        ["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=False
    )
    there = parse_gpus(done.stdout) if done.returncode == 0 else []
    names = [str(gpu[0][0]) for gpu in there] if chosen is None else chosen.split(",")
    found: list[int | str] = []
    for name in map(str.strip, names):
        if name.startswith(("GPU-", "MIG-")):
            fitting = [d for gpu in there for d in gpu if d[1].startswith(name)]
            if len(fitting) != 1:
                raise UserError(
                    f"CUDA_VISIBLE_DEVICES = {chosen!r} is not allowed here: {name!r} names "
                    f"{count(len(fitting), 'GPU')}; allowed: as `nvidia-smi --list-gpus` has them"
                )
            full: int | str = fitting[0][1]
            slices = next((g[1:] for g in there if g[0] == fitting[0]), [])
        else:
            gpu = next((g for g in there if name.isdecimal() and g[0][0] == int(name)), None)
            if gpu is None:
                break
            full, slices = int(name), gpu[1:]
        new: list[int | str] = [device[1] for device in slices]
        new = new or [full]
        if not set(found).isdisjoint(new):
            return []
        found += new
    return found
