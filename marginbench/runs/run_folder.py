"""The run folder: one per cell, ``RUNS/SUITE/SLUG-KEY/``, and what its files say.

``cell.json`` what is run; ``history.jsonl`` the errors along the way; ``checkpoint.pt`` where a run
goes on; ``evaluation.npz`` what the figures need; ``environment.json`` where, when and how long;
``failure.json`` the last error; ``attempts.jsonl`` the attempts on a cluster; ``log.txt`` the run's
output; ``result.json``, written last: a cell is done if and only if it is there and reads well.
"""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

from marginbench.data.formats.archives import check_checksums, damage_named, open_archive
from marginbench.errors import DamagedFile, UserError
from marginbench.experiments.cells import cell_from_json
from marginbench.files import write_text_atomically
from marginbench.runs.cell_files import CellFiles
from marginbench.runs.cell_status import (
    FINISHED,
    CellStatus,
    State,
    finished_status,
    known_iteration,
    running_status,
)
from marginbench.runs.lease_state import read_lease
from marginbench.runs.run_files import FILES, odd_file, read_text


class RunFolder(CellFiles):
    """The files of one cell, checked and summed up in a state.

    Args: see :class:`marginbench.runs.cell_files.CellFiles`.
    """

    def create(self) -> None:
        """Make the folder and its cell.json, if they are not there.

        Raises:
            UserError: the folder cannot be written.
            DamagedFile: its cell.json is another cell's, or does not read.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not (self.path / "cell.json").exists():
                write_text_atomically(self.path / "cell.json", self.cell.to_json())
        except OSError as error:
            raise UserError(f"{self.path} cannot be written: {error.strerror}") from error
        self.check_cell()

    def clear(self) -> None:
        """Remove what an earlier run left, lease and log excepted.

        Raises:
            DamagedFile: see :meth:`check_files`; nothing is removed.
            OSError: a file cannot be removed. The result is the first to go: what is left of the
                others is then no finished cell.
        """
        self.check_files()
        for name in FILES:
            (self.path / name).unlink(missing_ok=True)

    def check_cell(self) -> None:
        """Make sure that cell.json is this cell's.

        Raises:
            DamagedFile: it does not read, or is another cell's.
        """
        path = self.path / "cell.json"
        try:
            text = read_text(path)
            if self.cell.is_stored_as(text):
                return
            key = cell_from_json(text).key
        except DamagedFile:
            raise
        except UserError as error:
            raise DamagedFile(path, str(error)) from None
        if key != self.key:
            raise DamagedFile(path, f"it holds the cell {key}, its folder is that of {self.key}")

    def check_files(self) -> None:
        """Make sure that the folder is one, and each of its files a file, if they are there.

        A directory, a link that leads nowhere or a pipe in a file's place can be neither read nor
        replaced.

        Raises:
            DamagedFile: it is not; the message names the path.
            OSError: the folder cannot be read.
        """
        if not self._exists():
            return
        with os.scandir(self.path) as entries:
            odd = odd_file(entries)
        if odd is not None:
            raise DamagedFile(Path(odd), "it is not a file")

    def _exists(self) -> bool:
        try:
            if stat.S_ISDIR(self.path.stat().st_mode):
                return True
        except FileNotFoundError:
            if not self.path.is_symlink():
                return False
        raise DamagedFile(self.path, "it is not a folder")

    def status(self) -> CellStatus:
        """What has become of the cell. Never raises: a damaged folder is a state."""
        try:
            if not self._exists():
                return CellStatus(State.NOT_STARTED)
            stored = self.stored_status()
            if stored.state in FINISHED or stored.state == State.DAMAGED:
                return stored
            lease = read_lease(self.path)
        except DamagedFile as error:
            return CellStatus(State.DAMAGED, str(error))
        except OSError as error:
            return self._unreadable(error)
        if lease is not None and lease.alive:
            return running_status(lease)
        return stored if lease is None else replace(stored, iteration=known_iteration(lease))

    def stored_status(self) -> CellStatus:
        """The state as the files have it, whoever may be training now. Never raises."""
        try:
            self.check_files()
            result = self.read_result()
            if (self.path / "cell.json").exists() or result is not None:
                self.check_cell()
            if result is not None:
                self.check_history(result)
                with damage_named(self.evaluation), open_archive(self.evaluation) as archive:
                    check_checksums(archive)
                return finished_status(result)
            failure = self.read_failure()
            if failure is not None:
                return CellStatus(State.FAILED, failure["error"])
            return CellStatus(State.STOPPED if self.checkpoint.exists() else State.NOT_STARTED)
        except DamagedFile as error:
            return CellStatus(State.DAMAGED, str(error))
        except OSError as error:
            return self._unreadable(error)

    def _unreadable(self, error: OSError) -> CellStatus:
        reason = error.strerror or error
        return CellStatus(State.DAMAGED, f"{self.path} cannot be read: {reason}")

    def check_history(self, result: dict[str, Any]) -> None:
        """Make sure that the history reads and ends where the result does.

        Raises:
            DamagedFile: it does not.
        """
        rows = self.read_history()
        last = rows[-1]["iteration"] if rows else 0
        if last != result["iteration"]:
            raise DamagedFile(
                self.path / "history.jsonl",
                f"it ends at iteration {last}, the result at {result['iteration']}",
            )
