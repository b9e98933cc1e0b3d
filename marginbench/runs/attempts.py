"""The tries that a cell had on a cluster: ``tries.jsonl`` in its run folder.

A line when a try starts and one when it ends. A start without an end is a try whose job vanished:
killed with SIGKILL, or with its node. The file decides whether a cell is tried again, since the
process that would remember is the one that dies.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, FiniteFloat, ValidationError

from marginbench.runs.run_files import StoredModel

FILE = "tries.jsonl"
BARREN_STOPS = 10

DONE = "done"
FAILED = "failed"
KILLED = "killed"
STOPPED = "stopped"
BUSY = "busy"
REFUSED = "refused"


class _Start(StoredModel):
    name: str = Field(alias="try")
    submission: str
    job: str
    restart: int
    host: str
    started: FiniteFloat
    checkpoint: int
    changed: list[str]


class _End(StoredModel):
    name: str = Field(alias="try")
    end: str


@dataclass(frozen=True)
class Try:
    """One try.

    Attributes:
        submission: the submission's name.
        job: the job's id.
        restart: how often SLURM had put the job back into the queue.
        host: where it ran; on a cluster, SLURM's name of the node.
        started: seconds since the epoch.
        checkpoint: the checkpoint's time stamp at the start, in ns; 0 without one.
        end: "done", "failed", "killed", "stopped" (asked to stop; it goes on), "busy" (another
            process had the cell), "refused" (another try would not help), or "" without an end.
        changed: what had changed in the code since submission.
    """

    submission: str
    job: str
    restart: int
    host: str
    started: float
    checkpoint: int
    end: str
    changed: tuple[str, ...]


def start_try(folder: Path, submission: str, job: str, restart: int, changed: list[str]) -> str:
    """Note that a try starts; returns its name for :func:`end_try`."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{job}/{restart}/{time.time_ns()}"
    _append(
        folder,
        {
            "try": name,
            "submission": submission,
            "job": job,
            "restart": restart,
            "host": os.environ.get("SLURMD_NODENAME") or socket.gethostname(),
            "started": time.time(),
            "checkpoint": _checkpoint(folder),
            "changed": changed,
        },
    )
    return name


def end_try(folder: Path, name: str, end: str) -> None:
    """Note how a try ended."""
    _append(folder, {"try": name, "end": end, "ended": time.time()})


def read_tries(folder: Path) -> list[Try]:
    """The tries of a cell, in their order; lines that do not read are left out."""
    starts: dict[str, _Start] = {}
    ends: dict[str, str] = {}
    for line in _lines(folder / FILE):
        if isinstance(line, _Start):
            starts[line.name] = line
        else:
            ends[line.name] = line.end
    return [
        Try(
            submission=start.submission,
            job=start.job,
            restart=start.restart,
            host=start.host,
            started=start.started,
            checkpoint=start.checkpoint,
            end=ends.get(name, ""),
            changed=tuple(start.changed),
        )
        for name, start in starts.items()
    ]


def failures(folder: Path, submission: str) -> tuple[int, int]:
    """How often a cell has failed under a submission, and how often it stopped without progress.

    An error or a killed process counts always. A try that vanished with its job counts only if no
    checkpoint was written: otherwise it was most likely preempted. Stops without progress count
    since the last progress.
    """
    tries = [one for one in read_tries(folder) if one.submission == submission]
    after = [*(one.checkpoint for one in tries), _checkpoint(folder)][1:]
    failed = barren = 0
    for one, later in zip(tries, after, strict=True):
        progressed = later != one.checkpoint
        if one.end in (FAILED, KILLED) or (one.end == "" and not progressed):
            failed += 1
        if one.end == STOPPED:
            barren = 0 if progressed else barren + 1
    return failed, barren


def _checkpoint(folder: Path) -> int:
    try:
        return (folder / "checkpoint.pt").stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _append(folder: Path, line: dict[str, Any]) -> None:
    # One write of one short line: a reader sees it whole, or torn at the end and leaves it out.
    text = "\n" + json.dumps(line) + "\n"
    file = os.open(folder / FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, text.encode())
    finally:
        os.close(file)


def _lines(path: Path) -> Iterator[_Start | _End]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    # Lines are written with an empty one before, in case the last one was torn.
    for line in filter(None, text.splitlines()):
        for model in (_Start, _End):
            with contextlib.suppress(ValidationError):
                yield model.model_validate_json(line)
