"""A part of the classes: what a head asks of those who have the others."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Shard(Protocol):
    """The classes first … first + K_r − 1 of K, and the way to those who have the rest.

    Every rank calls the same of these in the same order."""

    @property
    def first(self) -> int:
        """The number of the first class."""
        ...

    def total(self, partial: Tensor) -> Tensor:
        """The sum over the ranks, on each of them. Each rank's gradient is that of the sum."""
        ...

    def spread(self, whole: Tensor) -> Tensor:
        """A tensor that is the same on every rank; its gradient is the sum of the ranks'."""
        ...

    def log_sum_exp(self, own: Tensor) -> Tensor:
        """log Σ_ranks exp(own), element by element; without gradient."""
        ...
