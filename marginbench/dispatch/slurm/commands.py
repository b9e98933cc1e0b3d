"""SLURM's commands: how they are called, and how their output is read.

Where a command fails or does not answer, each function raises a UserError, if nothing else is said.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

from marginbench.errors import UserError

COMMAND_SECONDS = 120
UNLIMITED = 10**9
_QUEUE_FORMAT = "%F|%K|%A|%T|%k|%N|%r"
# The user's part of a comment may hold "|", and so may reasons.
_QUEUE_LINE = re.compile(r"(\d+)\|([^|]*)\|(\d+)\|(\w+)\|(.*)\|([^|\s]*)\|(.*)")
# What decides which SLURM is asked; all other variables change what its commands do or print.
_KEPT_VARIABLES = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT", "SLURM_CLUSTERS")
_VARIABLES = ("SLURM", "SQUEUE_", "SCANCEL_", "SCONTROL_", "SRUN_")
_IDS_A_CALL = 500


@dataclass(frozen=True)
class SlurmLimits:
    """What the cluster accepts.

    Attributes:
        cluster: its name.
        array_size: the most jobs of one array.
        queue_size: the most jobs that the controller holds, everybody's together.
    """

    cluster: str
    array_size: int
    queue_size: int


@dataclass(frozen=True)
class QueuedJob:
    """A job as squeue lists it.

    Attributes:
        job: "123" or "123_4".
        state: SLURM's name of it in capitals: PENDING, RUNNING, COMPLETING, ...
        comment: what the submission wrote on it.
        node: where it runs; "" while pending.
        reason: why it is pending.
    """

    job: str
    state: str
    comment: str
    node: str
    reason: str


def job_name(suite: str) -> str:
    """What the jobs of a suite are called in the queue."""
    return f"marginbench:{suite}"


def slurm_available() -> bool:
    """Whether this machine has SLURM's commands."""
    return all(shutil.which(name) for name in ("sbatch", "squeue", "scontrol", "srun"))


class LocalSlurm:
    """The cluster that this machine belongs to; asked for its configuration at most once."""

    @cached_property
    def limits(self) -> SlurmLimits:
        """Its name and limits, from one ``scontrol show config``.

        Raises:
            UserError: this machine has not SLURM's commands, or SLURM does not answer.
        """
        if not slurm_available():
            raise UserError(
                "SLURM's commands (sbatch, squeue, scontrol, srun) are not here: submit from a "
                "login node of the cluster, or use --executor local for processes on this machine"
            )
        return parse_limits(_run(["scontrol", "show", "config"]))

    @cached_property
    def cluster(self) -> str | None:
        """Its name, or None where there is no SLURM or it does not answer."""
        try:
            return self.limits.cluster
        except UserError:
            return None


def parse_limits(config: str) -> SlurmLimits:
    """:class:`SlurmLimits` from the text of ``scontrol show config``.

    MaxArraySize is one above the highest index, and indices start at 0; 0 switches arrays off.
    """
    fields = dict(re.findall(r"^(\w+)\s*=\s*(.*?)\s*$", config, flags=re.MULTILINE))
    tasks = re.search(r"max_array_tasks=(\d+)", fields.get("SchedulerParameters", ""))
    sizes = [_number(fields.get("MaxArraySize"), 1001)]
    sizes += [int(tasks.group(1))] if tasks else []
    return SlurmLimits(
        cluster=fields.get("ClusterName", ""),
        array_size=max(1, min(sizes)),
        queue_size=_number(fields.get("MaxJobCount"), UNLIMITED),
    )


def queue_length() -> int:
    """How many jobs the cluster's queue holds, everybody's, each job of an array counted."""
    return _run(["squeue", "--all", "--array", "--noheader", "--format=%A"]).count("\n")


def queued_jobs(name: str) -> list[QueuedJob]:
    """The jobs of a name that are in the queue, whosever they are, from one ``squeue``."""
    # Without --all, jobs of hidden partitions are not listed.
    command = ["squeue", "--all", "--array", "--noheader", f"--name={name}"]
    return parse_queue(_run([*command, f"--format={_QUEUE_FORMAT}"]))


def parse_queue(text: str) -> list[QueuedJob]:
    """:class:`QueuedJob` of each line of :func:`queued_jobs`' format."""
    jobs = []
    for line in text.splitlines():
        if found := _QUEUE_LINE.fullmatch(line):
            array, index, single, *rest = found.groups()
            jobs.append(QueuedJob(f"{array}_{index}" if index.isdigit() else single, *rest))
    return jobs


def cancel_jobs(jobs: Sequence[str]) -> None:
    """``scancel`` jobs by their ids; those that are gone already do not matter."""
    for start in range(0, len(jobs), _IDS_A_CALL):
        _run(["scancel", "--quiet", *jobs[start : start + _IDS_A_CALL]])


def job_state(job: str) -> str:
    """SLURM's state of a job ("RUNNING"), or "" if it is not in the queue or squeue fails."""
    try:
        lines = _run(["squeue", "--all", "--noheader", f"--jobs={job}", "--format=%T"]).split()
    except UserError:
        return ""
    return lines[-1] if lines else ""


def requeue_job(job: str) -> None:
    """``scontrol requeue``."""
    _run(["scontrol", "requeue", job])


@cache
def sbatch_help() -> str:
    """What ``sbatch --help`` prints here, or "" where there is none."""
    try:
        return _run(["sbatch", "--help"])
    except UserError:
        return ""


@contextlib.contextmanager
def slurm_environment(without: Collection[str] = ()) -> Iterator[None]:
    """Commands of SLURM started meanwhile do what their arguments say, and so do their jobs.

    A user's variables can change any option (``SQUEUE_STATES``), and those of a job that this
    process is in would be its jobs' too.

    Args:
        without: names of further variables that they are not to see.
    """
    hidden = {
        name: value
        for name, value in os.environ.items()
        if name in without or (name.startswith(_VARIABLES) and name not in _KEPT_VARIABLES)
    }
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(hidden)


def _number(text: str | None, otherwise: int) -> int:
    found = re.match(r"\d+", text or "")
    return int(found.group()) if found else otherwise


def _run(command: list[str]) -> str:
    try:
        with slurm_environment():
            done = subprocess.run(
                command,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=COMMAND_SECONDS,
                check=False,
            )
    except FileNotFoundError:
        raise UserError(f"{command[0]}: no such command on this machine") from None
    except subprocess.TimeoutExpired:
        raise UserError(f"{command[0]} has not answered for {COMMAND_SECONDS} s") from None
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise UserError(f"{command[0]} failed: {lines[-1]}")
    return done.stdout
