"""λ annealing of the multiplicative margins (L-Softmax, A-Softmax)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MarginAnnealing(nn.Module):
    """λ(t) = max(λ_min, base·(1 + γt)^(−power)), t counting the training forward passes from 1.

    The target logit is (λ·(no margin) + (margin)) / (1 + λ), so that training starts as plain
    softmax and ends with the margin in full (Liu et al., ICML 2016, Section 5.1; the course of λ
    is that of the authors' Caffe code). t is a buffer: a checkpoint carries it, and a resumed run
    goes on where it stopped.

    Args:
        base: λ's start, ≥ 0; 0 switches annealing off: the margin counts in full from the start.
        gamma: ≥ 0.
        power: ≥ 0.
        minimum: λ_min ≥ 0.
    """

    iteration: Tensor

    def __init__(self, base: float, gamma: float, power: float, minimum: float) -> None:
        super().__init__()
        self.base = base
        self.gamma = gamma
        self.power = power
        self.minimum = minimum
        self.register_buffer("iteration", torch.zeros((), dtype=torch.int64))

    def advance(self) -> None:
        """Count one forward pass, if training."""
        if self.training:
            self.iteration += 1

    def current(self) -> Tensor:
        """λ now, a float32 scalar on the buffer's device; no host synchronisation."""
        decay = (1 + self.gamma * self.iteration.double()) ** -self.power
        return (self.base * decay).clamp_min(self.minimum).float()

    def blend(self, plain: Tensor, margin: Tensor) -> Tensor:
        """(λ·plain + margin) / (1 + λ)."""
        if self.base == 0:
            return margin
        weight = self.current().to(plain.dtype)
        return (weight * plain + margin) / (1 + weight)

    def diagnostics(self) -> dict[str, Tensor]:
        """λ, for the history; nothing where annealing is off."""
        return {"lambda": self.current()} if self.base else {}
