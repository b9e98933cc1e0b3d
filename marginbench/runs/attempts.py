"""The attempts at training a cell on a cluster: ``attempts.jsonl`` in its run folder.

A line when an attempt starts and one when it ends. A start without an end is an attempt whose job
vanished: killed with SIGKILL, or with its node. The file decides whether there is another attempt,
since the process that would remember is the one that dies.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, Field, FiniteFloat, ValidationError

from marginbench.files import read_regular
from marginbench.runs.run_files import StoredModel

FILE = "attempts.jsonl"
# Of jobs that were started by an earlier version, whose lines have another field for the name.
OLD_FILE, _OLD_NAME = "tries.jsonl", "try"
MAX_STOPS_WITHOUT_PROGRESS = 10

DONE = "done"
FAILED = "failed"
KILLED = "killed"
STOPPED = "stopped"
BUSY = "busy"
REFUSED = "refused"
UNUSABLE = "unusable"


class _Line(StoredModel):
    name: str = Field(
        validation_alias=AliasChoices("attempt", _OLD_NAME), serialization_alias="attempt"
    )


class Attempt(_Line):
    """One attempt: the line that its start writes, and its end.

    Attributes:
        submission: the submission's name.
        job: the job's id.
        restart: how often SLURM had requeued the job.
        host: where it ran; on a cluster, SLURM's name of the node.
        started: seconds since the epoch.
        checkpoint: the checkpoint's time stamp at the start, in ns; 0 without one.
        changed: what had changed in the code since submission.
        end: "done", "failed", "killed", "stopped" (asked to stop; it goes on), "busy" (another
            process had the cell), "refused" (another attempt would not help), "unusable" (the GPU
            was at fault: it does not count), or "" without an end.
    """

    submission: str
    job: str
    restart: int = Field(ge=0, lt=2**31)
    host: str
    started: FiniteFloat
    checkpoint: int
    changed: list[str]
    end: str = ""


class _End(_Line):
    end: str


def start_attempt(folder: Path, submission: str, job: str, restart: int, changed: list[str]) -> str:
    """Note that an attempt starts; returns its name for :func:`end_attempt`."""
    folder.mkdir(parents=True, exist_ok=True)
    attempt = Attempt.model_validate(
        {
            "attempt": f"{job}/{restart}/{time.time_ns()}",
            "submission": submission,
            "job": job,
            "restart": restart,
            "host": os.environ.get("SLURMD_NODENAME") or socket.gethostname(),
            "started": time.time(),
            "checkpoint": _checkpoint(folder),
            "changed": changed,
        }
    )
    _append(folder, attempt.model_dump(by_alias=True, exclude={"end"}))
    return attempt.name


def end_attempt(folder: Path, name: str, end: str) -> None:
    """Note how an attempt ended."""
    _append(folder, {"attempt": name, "end": end, "ended": time.time()})


def read_attempts(folder: Path, submission: str | None = None) -> list[Attempt]:
    """The attempts at a cell, in their order; lines that do not read are left out.

    Args:
        folder: the cell's.
        submission: name of the submission whose attempts are asked for; None for all.
    """
    found: dict[str, Attempt] = {}
    ends: dict[str, str] = {}
    for line in (*_lines(folder / OLD_FILE), *_lines(folder / FILE)):
        if isinstance(line, _End):
            ends[line.name] = line.end
        elif submission in (None, line.submission):
            found[line.name] = line
    for name, attempt in found.items():
        attempt.end = ends.get(name, "")
    return list(found.values())


def failures(folder: Path, submission: str) -> tuple[int, int]:
    """How often a cell has failed under a submission, and how often it stopped without progress.

    An error or a killed process counts always. An attempt that vanished with its job counts only if
    no checkpoint was written: otherwise it was most likely preempted. Stops without progress count
    since the last progress.
    """
    attempts = read_attempts(folder, submission)
    after = [*(attempt.checkpoint for attempt in attempts), _checkpoint(folder)][1:]
    failed = stopped = 0
    for attempt, later in zip(attempts, after, strict=True):
        progressed = later != attempt.checkpoint
        if attempt.end in (FAILED, KILLED) or (attempt.end == "" and not progressed):
            failed += 1
        if attempt.end == STOPPED:
            stopped = 0 if progressed else stopped + 1
    return failed, stopped


def _checkpoint(folder: Path) -> int:
    try:
        return (folder / "checkpoint.pt").stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _append(folder: Path, line: dict[str, Any]) -> None:
    # One write of one short line: a reader sees it whole, or torn at the end and leaves it out.
    text = "\n" + json.dumps(line) + "\n"
    file = os.open(folder / FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o644)
    try:
        os.write(file, text.encode())
    finally:
        os.close(file)


def _lines(path: Path) -> Iterator[Attempt | _End]:
    try:
        text = read_regular(path).decode(errors="replace")
    except OSError:
        return
    # Lines are written with an empty one before, in case the last one was torn.
    for line in filter(None, text.splitlines()):
        for model in (Attempt, _End):
            with contextlib.suppress(ValidationError):
                yield model.model_validate_json(line)
                break
