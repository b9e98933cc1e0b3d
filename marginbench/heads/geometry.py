"""Norms, directions and cosines that stay finite, with finite gradients, at zero vectors."""

from __future__ import annotations

import torch
from torch import Tensor


def is_on_host(tensor: Tensor) -> bool:
    """Whether a look at the numbers costs nothing; of a GPU's tensor it waits for the device."""
    return tensor.device.type == "cpu"


def norm_and_direction(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Length and direction of each row.

    A zero row has norm 0 and direction 0, both with gradient 0. ``F.normalize`` gives the same
    values, but a gradient of 1/eps there.

    Args:
        vectors: (N, D).

    Returns:
        norms (N, 1) and directions (N, D), directions of unit length or zero.
    """
    # Dividing by the largest entry first keeps the squares within range for every float32 vector.
    largest = vectors.detach().abs().amax(dim=-1, keepdim=True)
    largest = torch.where(largest > 0, largest, 1)
    scaled = vectors / largest
    squared = scaled.square().sum(dim=-1, keepdim=True)
    nonzero = squared > 0
    # The square root never sees a zero: a NaN in the branch not selected would still spread.
    scaled_norm = torch.where(nonzero, squared, 1).sqrt()
    direction = torch.where(nonzero, scaled / scaled_norm, 0)
    return torch.where(nonzero, scaled_norm * largest, 0), direction


def direction(vectors: Tensor) -> Tensor:
    """Each row divided by its length; a zero row stays zero, with gradient 0. (N, D) → (N, D)."""
    return norm_and_direction(vectors)[1]


def sine(cosine: Tensor) -> Tensor:
    """sin θ from cos θ for θ in [0, π], with gradient 0 (and not infinity) at cos θ = ±1."""
    # (1 − c)(1 + c) keeps the digits that 1 − c² loses near c = ±1.
    squared = (1 - cosine) * (1 + cosine)
    inside = squared > 0
    return torch.where(inside, torch.where(inside, squared, 1).sqrt(), 0)


def angle(cosine: Tensor) -> Tensor:
    """θ in [0, π] from cos θ, with gradient 0 (and not infinity) at cos θ = ±1."""
    return torch.atan2(sine(cosine), cosine)
