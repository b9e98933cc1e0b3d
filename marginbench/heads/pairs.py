"""Pairs within a batch, for the losses that compare samples with one another."""

from __future__ import annotations

import torch
from torch import Tensor


def pair_masks(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Which ordered pairs of a batch are of the same class, and which of different ones.

    Args:
        labels: (N,).

    Returns:
        Two boolean masks (N, N): same class (no sample is paired with itself), different class.
    """
    equal = labels[:, None] == labels[None, :]
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    return equal & ~itself, ~equal
