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
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from marginbench.errors import UserError
from marginbench.files import remove_temporaries, temporary_beside, write_text_atomically
from marginbench.runs.lease_state import (
    EXPIRY_SECONDS,
    RENEW_SECONDS,
    highest_lease,
    read_lease,
    who_holds,
)
from marginbench.runs.process_identity import process_identity


class LeaseLost(UserError):
    """Another process took the lease over, because this one had not renewed it for long."""


class Lease:
    """A held lease. Renewed by a thread of its own until :meth:`release`.

    Use :meth:`acquire`.
    """

    def __init__(
        self,
        folder: Path,
        number: int,
        owner: dict[str, Any],
        renew: float,
        on_progress: Callable[[dict[str, Any]], None],
    ) -> None:
        self._folder = folder
        self._number = number
        self._owner = owner
        self._on_progress = on_progress
        self._progress: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, args=(renew,), daemon=True)
        self._thread.start()

    @classmethod
    def acquire(
        cls,
        folder: Path,
        renew_seconds: float = RENEW_SECONDS,
        on_progress: Callable[[dict[str, Any]], None] = lambda progress: None,
    ) -> Lease | None:
        """The lease of a run folder, or None if somebody holds it.

        What killed processes left half-written in the folder is removed.

        Args:
            folder: must exist.
            renew_seconds: how often the lease is renewed and the progress is written, for
                watchers on any machine.
            on_progress: called with the progress whenever it changes, for a watcher in this
                process or on this machine.

        Raises:
            OSError: the folder cannot be read or written.
        """
        current = read_lease(folder)
        if who_holds(folder, current) is not None:
            return None
        number = 1 if current is None else current.number + 1
        owner = process_identity(os.getpid())
        path = folder / f"lease-{number}.json"
        if not _create_exclusively(path, _text(owner, False, {})):
            return None
        if highest_lease(folder) != number:
            # The number was free because a later owner had already tidied it up.
            path.unlink(missing_ok=True)
            return None
        for old in range(max(1, number - 3), number):
            with contextlib.suppress(OSError):
                (folder / f"lease-{old}.json").unlink()
        remove_temporaries(folder)
        return cls(folder, number, owner, renew_seconds, on_progress)

    def set_progress(self, **progress: Any) -> None:
        """Set the progress that the next renewal writes, for whoever watches."""
        with self._lock:
            self._progress = progress
        self._on_progress(progress)

    def held(self) -> bool:
        """Whether no other process has taken the lease over.

        Raises:
            OSError: the folder cannot be read.
        """
        return highest_lease(self._folder) == self._number

    def check(self) -> None:
        """Make sure that the lease is still held; call before every write to the run folder.

        Raises:
            LeaseLost: another process took it over.
        """
        if not self.held():
            raise LeaseLost(
                f"{self._folder}: another process took this run over, because this one had shown "
                f"no life for {EXPIRY_SECONDS:.0f} s; it stops here"
            )

    def release(self) -> None:
        """Give the lease back. Nothing happens if it was lost, or the folder is gone."""
        self._stop.set()
        self._thread.join()
        try:
            if self.held():
                self._write(released=True)
        except OSError:
            # A full disk takes no file, but gives one up. A lease left behind would keep others
            # out for as long as this process lives.
            with contextlib.suppress(OSError):
                self._path.unlink()

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()

    def _renew(self, every: float) -> None:
        while not self._stop.wait(every):
            # A file system that fails now may work again before the lease runs out.
            with contextlib.suppress(OSError):
                if not self.held():
                    return
                self._write(released=False)

    @property
    def _path(self) -> Path:
        return self._folder / f"lease-{self._number}.json"

    def _write(self, released: bool) -> None:
        with self._lock:
            text = _text(self._owner, released, self._progress)
        write_text_atomically(self._path, text, durable=False)


def _text(owner: dict[str, Any], released: bool, progress: dict[str, Any]) -> str:
    return json.dumps({"owner": owner, "released": released, "progress": progress}) + "\n"


def _create_exclusively(path: Path, text: str) -> bool:
    """Create a file with its content in one step; False if it is there already."""
    temporary = temporary_beside(path)
    try:
        temporary.write_text(text)
        os.link(temporary, path)
    except (FileExistsError, FileNotFoundError):
        # Another process has it, or has had it in the meantime and tidied up.
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True
