"""What a lease on a run folder says, and whether its owner lives: see :mod:`lease`."""

from __future__ import annotations

import contextlib
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, FiniteFloat, ValidationError

from marginbench.files import read_regular
from marginbench.runs.process_identity import process_lives, this_machine
from marginbench.runs.run_files import StoredModel
from marginbench.text import duration

RENEW_SECONDS = 10.0
EXPIRY_SECONDS = 90.0
# A living owner replaces a damaged file the next time that it renews the lease.
DAMAGED_SECONDS = 3 * RENEW_SECONDS

_PATTERN = re.compile(r"lease-([1-9][0-9]*)\.json")
# A lease may be taken over or renewed between the reading of the folder and that of the file.
_MOST_READS = 5


class _Owner(StoredModel):
    machine: str
    host: str
    pid: int = Field(ge=1, lt=2**31)
    started: FiniteFloat


class _Content(StoredModel):
    owner: _Owner
    released: bool
    progress: dict[str, FiniteFloat]


@dataclass(frozen=True)
class LeaseState:
    """What a lease file says.

    Attributes:
        number: its number.
        owner: host, process and start time of the process that holds it; empty if the file is
            damaged.
        released: whether the owner is done.
        progress: what the owner last recorded of its run: finite numbers by name.
        age: seconds since it was last renewed; negative where the owner's clock is ahead of this
            machine's.
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
        if not self.owner:
            return self.age < DAMAGED_SECONDS
        return process_lives(self.owner) if self._is_here else self.age < EXPIRY_SECONDS

    @property
    def ahead(self) -> bool:
        """Whether it counts by its age, and its time stamp lies in the future of this machine."""
        return not self._is_here and self.age < -RENEW_SECONDS

    @property
    def _is_here(self) -> bool:
        return self.owner.get("machine") == this_machine()

    def owner_text(self) -> str:
        """The owner for a message."""
        if not self.owner:
            return f"an unknown process (lease-{self.number}.json is damaged)"
        text = f"process {self.owner['pid']} on {self.owner['host']}"
        if self.ahead:
            text += f", whose clock is {duration(-self.age)} ahead of this machine's"
        return text


def read_lease(folder: Path) -> LeaseState | None:
    """The lease that counts in a run folder, or None.

    Raises:
        OSError: the folder or the lease cannot be read.
    """
    for reading in range(_MOST_READS):
        number = highest_lease(folder)
        if number is None:
            return None
        path = folder / f"lease-{number}.json"
        try:
            age = time.time() - path.stat().st_mtime
            text = read_regular(path)
        except OSError:
            if reading == _MOST_READS - 1:
                raise
            continue
        try:
            content = _Content.model_validate_json(text).model_dump()
        except ValidationError:
            # Leases are written whole: this one was damaged from outside.
            return LeaseState(number, {}, False, {}, age)
        return LeaseState(number, content["owner"], content["released"], content["progress"], age)
    return None


def holder(folder: Path) -> LeaseState | None:
    """Who holds the lease of a run folder; None if it may be taken.

    Raises:
        OSError: see :func:`read_lease`.
    """
    return who_holds(folder, read_lease(folder))


def who_holds(folder: Path, current: LeaseState | None) -> LeaseState | None:
    """:func:`holder`, of a lease that has been read already."""
    if current is None or not current.alive:
        return None
    if current.ahead:
        # Its age says nothing. It counts from now, by this machine's clock; an owner that lives
        # renews it all the same.
        with contextlib.suppress(OSError):
            os.utime(folder / f"lease-{current.number}.json")
    return current


def highest_lease(folder: Path) -> int | None:
    """The number of the lease that counts, or None."""
    numbers = [
        int(match.group(1)) for path in folder.iterdir() if (match := _PATTERN.fullmatch(path.name))
    ]
    return max(numbers, default=None)
