"""Which process of which machine: distinct from every other one, later ones included."""

from __future__ import annotations

import contextlib
import socket
from functools import cache
from pathlib import Path
from typing import Any

import psutil


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
    """What sets a process of this machine apart from others, later ones of its number included."""
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
