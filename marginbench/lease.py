"""A lease on a run folder: at most one process trains a cell, wherever the others run.

It works on any file system that creates hard links atomically, NFS included, and survives an
owner that died: a lease that is no longer renewed runs out.

Leases are numbered files, ``lease-1.json``, ``lease-2.json``, ...; the one with the highest number
counts. Taking over means creating the next number, which only one process can; whoever still holds
a lower number sees that it lost before it writes anything more.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import threading
import time
import uuid
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from marginbench.atomic_files import write_text_atomically
from marginbench.errors import UserError

RENEW_SECONDS = 10.0
EXPIRY_SECONDS = 90.0

_PATTERN = re.compile(r"lease-(\d+)\.json")


class LeaseLost(UserError):
    """Another process took the lease over, because this one had not renewed it for long."""


@dataclass(frozen=True)
class LeaseState:
    """What a lease file says.

    Attributes:
        number: its number.
        owner: host, process and start time of the process that holds it.
        released: whether the owner is done.
        progress: what the owner last told of its run.
        age: seconds since it was last renewed.
    """

    number: int
    owner: dict[str, Any]
    released: bool
    progress: dict[str, Any]
    age: float

    @property
    def alive(self) -> bool:
        """Whether somebody still holds it: at once for this machine's processes, by age else."""
        if self.released:
            return False
        if self.owner.get("machine") == this_machine():
            return process_lives(self.owner)
        return self.age < EXPIRY_SECONDS

    def owner_text(self) -> str:
        """The owner for a message."""
        return f"process {self.owner.get('pid')} on {self.owner.get('host')}"


def read_lease(folder: Path) -> LeaseState | None:
    """The lease that counts in a run folder, or None."""
    number = _highest(folder)
    if number is None:
        return None
    path = folder / f"lease-{number}.json"
    try:
        age = time.time() - path.stat().st_mtime
        content = json.loads(path.read_text())
        return LeaseState(number, content["owner"], content["released"], content["progress"], age)
    except FileNotFoundError:
        # Taken over between the listing and the reading: the next look shows the new one.
        return read_lease(folder)
    except (ValueError, KeyError, TypeError):
        # Leases are written whole: this one was damaged from outside. Nobody renews it.
        age = time.time() - path.stat().st_mtime
        return LeaseState(number, {}, age > EXPIRY_SECONDS, {}, age)


class Lease:
    """A held lease. Renewed by a thread of its own until :meth:`release`.

    Use :meth:`acquire`.
    """

    def __init__(self, folder: Path, number: int, owner: dict[str, Any], renew: float) -> None:
        self._folder = folder
        self._number = number
        self._owner = owner
        self._progress: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, args=(renew,), daemon=True)
        self._thread.start()

    @classmethod
    def acquire(cls, folder: Path, renew_seconds: float = RENEW_SECONDS) -> Lease | None:
        """The lease of a run folder, or None if somebody holds it.

        Args:
            folder: must exist.
            renew_seconds: how often the lease is renewed and the progress is told.
        """
        current = read_lease(folder)
        if current is not None and current.alive:
            return None
        number = 1 if current is None else current.number + 1
        owner = process_identity(os.getpid())
        path = folder / f"lease-{number}.json"
        if not _create_exclusively(path, _text(owner, False, {})):
            return None
        if _highest(folder) != number:
            # The number was free because a later owner had already tidied it up.
            path.unlink(missing_ok=True)
            return None
        for old in range(max(1, number - 3), number):
            (folder / f"lease-{old}.json").unlink(missing_ok=True)
        return cls(folder, number, owner, renew_seconds)

    def tell(self, **progress: Any) -> None:
        """Set the progress that the next renewal writes, for whoever watches."""
        with self._lock:
            self._progress = progress

    def check(self) -> None:
        """Make sure that the lease is still held; call before every write to the run folder.

        Raises:
            LeaseLost: another process took it over.
        """
        if _highest(self._folder) != self._number:
            raise LeaseLost(
                f"{self._folder}: another process took this run over, because this one had shown "
                f"no life for {EXPIRY_SECONDS:.0f} s; it stops here"
            )

    def release(self) -> None:
        """Give the lease back. Nothing happens if it was lost."""
        self._stop.set()
        self._thread.join()
        if _highest(self._folder) == self._number:
            self._write(released=True)

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()

    def _renew(self, every: float) -> None:
        while not self._stop.wait(every):
            if _highest(self._folder) != self._number:
                return
            self._write(released=False)

    def _write(self, released: bool) -> None:
        with self._lock:
            text = _text(self._owner, released, self._progress)
        path = self._folder / f"lease-{self._number}.json"
        write_text_atomically(path, text, durable=False)


def _text(owner: dict[str, Any], released: bool, progress: dict[str, Any]) -> str:
    return json.dumps({"owner": owner, "released": released, "progress": progress}) + "\n"


def _highest(folder: Path) -> int | None:
    numbers = [
        int(match.group(1)) for path in folder.iterdir() if (match := _PATTERN.fullmatch(path.name))
    ]
    return max(numbers, default=None)


def _create_exclusively(path: Path, text: str) -> bool:
    """Create a file with its content in one step; False if it is there already."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    temporary.write_text(text)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink()
    return True


@cache
def this_machine() -> str:
    """A name for this machine since its start, and for this container on it."""
    parts = [socket.gethostname(), f"{psutil.boot_time():.0f}"]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    # The boot time shifts with clock corrections: it is for systems without a boot id only.
    if len(parts) > 2:
        del parts[1]
    return "/".join(parts)


def this_host() -> str:
    """The name that this machine goes by among others."""
    return socket.gethostname()


def process_identity(pid: int) -> dict[str, Any]:
    """What tells a process of this machine from every other, later ones of its number included."""
    return {
        "machine": this_machine(),
        "host": this_host(),
        "pid": pid,
        "started": psutil.Process(pid).create_time(),
    }


def process_lives(owner: dict[str, Any]) -> bool:
    """Whether the very process lives: its number may have been given to another one since.

    Args:
        owner: :func:`process_identity` of a process of this machine.
    """
    try:
        process = psutil.Process(owner["pid"])
        same = abs(process.create_time() - owner["started"]) < 1
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
