"""Hyperspherical energy: how evenly the directions of a layer's filters are spread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from marginbench.heads.geometry import angle, norm_and_direction

Power = Annotated[int, Field(ge=0, le=2)]
"""s of the energy: 0, 1 or 2."""
Distance = Literal["euclidean", "angular"]
"""Between directions: the length of the chord, or the angle."""

LEAST_DISTANCE = 0.01
"""Directions that are nearer count as so far apart, with gradient 0: the energy of equal ones is
infinite, and float32 does not tell smaller distances of unit vectors apart by their cosine."""
PAIRS_HELD = 2**22
"""So many pairs are held at a time; of more, each part is computed again in the backward pass."""


def hyperspherical_energy(
    filters: Tensor,
    *,
    power: Power = 2,
    distance: Distance = "euclidean",
    half_space: bool = False,
) -> Tensor:
    """E/(N(N − 1)), E = Σ_{i≠j} f(d(ŵ_i, ŵ_j)), the sum over ordered pairs of unit filters.

    f(d) = d^(−s), and log(1/d) for s = 0; d is ‖ŵ_i − ŵ_j‖ or arccos(ŵ_i·ŵ_j) (Liu et al., Learning
    towards Minimum Hyperspherical Energy, NeurIPS 2018, Eq. 1, its normalisation by Eq. 8; the
    angle in Section 3.4). In the half-space variant the opposite of each filter is one more filter
    (Section 3.3), so that N is twice as large: then ŵ and −ŵ repel each other's neighbours alike.

    Args:
        filters: (N, D). Zeros have no direction, and are left out.
        power: s, 0, 1 or 2.
        distance: see above.
        half_space: see above.

    Returns:
        A scalar; 0 of fewer than two filters. Memory is that of at most :data:`PAIRS_HELD` pairs.
    """
    norms, directions = norm_and_direction(filters)
    there = (norms > 0).to(filters)[:, 0]
    count, total = len(filters), there.sum()
    number = torch.arange(count, device=filters.device)
    if half_space:
        directions = torch.cat([directions, -directions])
        there, number = there.repeat(2), number.repeat(2)

    def part(start: int, stop: int) -> Tensor:
        cosine = directions[start:stop] @ directions.T
        # A filter and its own opposite are as far apart as can be whatever the filter is.
        others = number[start:stop, None] != number
        weights = there[start:stop, None] * there * others
        return (weights * repulsion(cosine, power, distance)).sum()

    energy = sum_over_rows(part, len(directions), len(directions))
    if half_space:
        opposite = repulsion(-torch.ones_like(total), power, distance)
        energy, total = energy + 2 * total * opposite, 2 * total
    return energy / (total * (total - 1)).clamp_min(1)


def repulsion(cosine: Tensor, power: int, distance: str) -> Tensor:
    """f of the distance between unit vectors, from their cosine, element by element."""
    if distance == "angular":
        apart = angle(cosine).clamp_min(LEAST_DISTANCE)
        return -apart.log() if power == 0 else apart**-power
    squared = (2 - 2 * cosine).clamp_min(LEAST_DISTANCE**2)
    return -squared.log() / 2 if power == 0 else squared ** (-power / 2)


def sum_over_rows(part: Callable[[int, int], Tensor], rows: int, columns: int) -> Tensor:
    """Σ part(start, stop) over a table of pairs, so many rows at a time as memory allows.

    Args:
        part: the sum of some rows; it gives the same each time.
        rows: of the table.
        columns: of the table.

    Returns:
        A scalar.
    """
    step = max(1, PAIRS_HELD // columns)
    if step >= rows:
        return part(0, rows)
    parts = [
        checkpoint(
            part, start, min(start + step, rows), use_reentrant=False, preserve_rng_state=False
        )
        for start in range(0, rows, step)
    ]
    return torch.stack(parts).sum()
