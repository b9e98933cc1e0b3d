"""Compressive minimum hyperspherical energy: the energy of filters in few dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from marginbench.heads.geometry import angle, direction
from marginbench.plugins.parameters import NonNegative, Positive, PositiveInteger
from marginbench.regularisers import register_regulariser
from marginbench.regularisers.base import LayerShape, Regulariser
from marginbench.regularisers.energy import Distance, Power, hyperspherical_energy, sum_over_rows


@register_regulariser("comhe")
class CompressiveEnergy(Regulariser):
    """The energy of the projected filters, which has fewer stationary points than that of all D.

    "random": the mean over several projections with independent normal entries, drawn anew every
    few steps. "angle-preserving": one projection, which before each step goes down the mean squared
    change of the angles between filters, Σ_{i≠j}(θ(ŵ_i, ŵ_j) − θ(Pŵ_i, Pŵ_j))², the filters held
    fixed; for the filters' step it is a constant.

    Args:
        layers: of the cell.
        weight: λ of the hidden layers.
        classifier_weight: λ of the class weights; None: the same.
        projection: see above.
        dimension: k that is projected to; a layer with shorter filters keeps their length.
        projections: C, of "random".
        renew_every: of "random": steps from one draw to the next.
        inner_steps: of "angle-preserving": gradient steps of the projection before each step.
        inner_rate: of "angle-preserving": their rate, in units of the projection's norm squared,
            which the gradient is inverse to.
        power: s of the energy.
        distance: of the energy: the chord or the angle.
        half_space: whether a filter repels the others' opposites too.
    """

    formula = "(1/C) Σ_c E(P_c w_1, …, P_c w_N), E as of mhe"
    paper = (
        "Lin et al., Regularizing Neural Networks via Minimizing Hyperspherical Energy, CVPR 2020"
    )
    scale_invariant = True

    def __init__(
        self,
        layers: Sequence[LayerShape],
        *,
        weight: NonNegative = 1.0,
        classifier_weight: NonNegative | None = None,
        projection: Literal["random", "angle-preserving"] = "random",
        dimension: PositiveInteger = 30,
        projections: PositiveInteger = 5,
        renew_every: PositiveInteger = 1,
        inner_steps: PositiveInteger = 1,
        inner_rate: Positive = 0.1,
        power: Power = 2,
        distance: Distance = "euclidean",
        half_space: bool = False,
    ) -> None:
        super().__init__(layers, weight=weight, classifier_weight=classifier_weight)
        self.is_random = projection == "random"
        self.renew_every = renew_every
        self.inner_steps = inner_steps
        self.inner_rate = inner_rate
        self.power = power
        self.distance: Distance = distance
        self.half_space = half_space
        for number, layer in enumerate(layers):
            kept = min(dimension, layer.dimension)
            count = projections if self.is_random else 1
            self.register_buffer(f"projection_{number}", torch.randn(count, kept, layer.dimension))

    def penalty(self, filters: Tensor, layer: int) -> Tensor:
        energies = [
            hyperspherical_energy(
                filters @ one.T,
                power=self.power,
                distance=self.distance,
                half_space=self.half_space,
            )
            for one in self.get_buffer(f"projection_{layer}")
        ]
        return torch.stack(energies).mean()

    def renew(self, filters: Sequence[Tensor], iteration: int) -> None:
        if self.is_random and iteration % self.renew_every:
            return
        for layer, one in enumerate(filters):
            projection = self.get_buffer(f"projection_{layer}")
            if self.is_random:
                # Drawn on the CPU, so that every device sees the same.
                projection.copy_(torch.randn(projection.shape), non_blocking=True)
                continue
            for _ in range(self.inner_steps):
                projection.copy_(self._nearer(one, projection[0])[None])

    @torch.enable_grad()
    def _nearer(self, filters: Tensor, projection: Tensor) -> Tensor:
        """The projection after one gradient step towards the filters' own angles."""
        leaf = projection.clone().requires_grad_()
        (slope,) = torch.autograd.grad(angle_change(filters, leaf), leaf)
        return projection - self.inner_rate * projection.square().sum() * slope


def angle_change(filters: Tensor, projection: Tensor) -> Tensor:
    """The mean of (θ(ŵ_i, ŵ_j) − θ(Pŵ_i, Pŵ_j))² over ordered pairs i ≠ j, in radians squared.

    Args:
        filters: (N, D).
        projection: P, (k, D).

    Returns:
        A scalar; 0 of fewer than two filters.
    """
    count = len(filters)
    own = direction(filters)
    projected = direction(own @ projection.T)
    number = torch.arange(count, device=filters.device)

    def part(start: int, stop: int) -> Tensor:
        before = angle(own[start:stop] @ own.T)
        after = angle(projected[start:stop] @ projected.T)
        others = number[start:stop, None] != number
        return (others * (before - after)).square().sum()

    return sum_over_rows(part, count, count) / max(count * (count - 1), 1)
