"""Whether torchrun started this process, and as which of how many; without torch."""

from __future__ import annotations

import os


def started_by_torchrun() -> bool:
    """Whether torchrun (or anything that sets its variables) started several processes."""
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE") or 1) > 1


def torchrun_processes() -> int:
    """How many processes there are; 1 without torchrun."""
    return int(os.environ["WORLD_SIZE"]) if started_by_torchrun() else 1


def torchrun_rank() -> int:
    """This process's rank; 0 without torchrun."""
    return int(os.environ["RANK"]) if started_by_torchrun() else 0


def torchrun_local() -> tuple[int, int]:
    """This process's rank among those of its machine, and how many these are."""
    rank = int(os.environ.get("LOCAL_RANK") or 0)
    return rank, int(os.environ.get("LOCAL_WORLD_SIZE") or rank + 1)
