"""Which runs went wrong, and which merely learn badly."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


def divergence(history: list[dict[str, Any]], drawn_labels: Tensor, iterations: int) -> str | None:
    """Why a run counts as diverged, or None.

    A run diverged if its loss is no longer finite, or if half of the iterations have passed and it
    is stuck as at a dead start: its training error was at chance at every evaluation. Chance is an
    accuracy of at most twice the largest class's share p, and at most p + (1 − p)/10.

    Args:
        history: the rows so far.
        drawn_labels: (N,), in proportion to how often each class is drawn: a network at a dead
            start answers with one class, which is the largest only where that is drawn most.
        iterations: of the whole run.
    """
    last = history[-1]
    if last["loss"] is None or not math.isfinite(last["loss"]):
        return f"the loss was not finite at iteration {last['iteration']}"
    counts = torch.bincount(drawn_labels)
    share = (counts.max() / counts.sum()).item()
    if share == 1 or last["iteration"] < iterations / 2:
        return None
    chance = min(2 * share, share + (1 - share) / 10)
    if all(1 - row["train_error"] <= chance for row in history):
        return (
            f"stuck at chance: after {last['iteration']} iterations the training error is "
            f"{last['train_error']:.1%} and never was lower than {1 - chance:.1%}"
        )
    return None
