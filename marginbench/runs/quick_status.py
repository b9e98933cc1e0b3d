"""A cell's status at little cost, where there are thousands: one listing, and the deciding file.

What it may miss, :meth:`RunFolder.status` finds: damage to files other than the
result, the iteration of a cell that does not run, and a process of this machine that holds a lease
but has been frozen for longer than a lease lasts.
"""

from __future__ import annotations

import os
import time

from marginbench.errors import DamagedFile
from marginbench.runs.cell_status import CellStatus, State, finished_status, running_status
from marginbench.runs.lease_state import EXPIRY_SECONDS, read_lease
from marginbench.runs.run_files import odd_file
from marginbench.runs.run_folder import RunFolder


def quick_status(folder: RunFolder) -> CellStatus:
    """What has become of a cell, at little cost. Never raises: a damaged folder is a state."""
    try:
        return _quick_status(folder)
    except (DamagedFile, OSError):
        return folder.status()


def _quick_status(folder: RunFolder) -> CellStatus:
    with os.scandir(folder.path) as entries:
        files = {entry.name: entry for entry in entries}
    if odd_file(files.values()) is not None:
        return folder.status()
    if "result.json" in files:
        result = folder.read_result()
        return folder.status() if result is None else finished_status(result)
    if _renewed_lately(files):
        lease = read_lease(folder.path)
        if lease is not None and lease.alive:
            return running_status(lease)
    if "failure.json" in files:
        failure = folder.read_failure()
        if failure is not None:
            return CellStatus(State.FAILED, failure["error"])
    return CellStatus(State.STOPPED if "checkpoint.pt" in files else State.NOT_STARTED)


def _renewed_lately(files: dict[str, os.DirEntry[str]]) -> bool:
    for name, entry in files.items():
        if name.startswith("lease-"):
            try:
                age = time.time() - entry.stat().st_mtime
            except OSError:
                # Taken over just now: somebody is there.
                return True
            if age < EXPIRY_SECONDS:
                return True
    return False
