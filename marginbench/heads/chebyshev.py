"""ψ of the multiplicative margins, as a polynomial in the cosine."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from marginbench.heads.additive import folded_cosine
from marginbench.heads.geometry import angle

LARGEST_DEGREE = 8


def cosine_of_multiple(cosine: Tensor, m: int) -> Tensor:
    """cos(mθ) from cos θ: the Chebyshev polynomial T_m, by its recurrence; no acos is needed."""
    previous, current = torch.ones_like(cosine), cosine
    for _ in range(m - 1):
        previous, current = current, 2 * cosine * current - previous
    return current


def multiplicative_psi(cosine: Tensor, m: int) -> Tensor:
    """ψ(θ) = (−1)^k cos(mθ) − 2k for θ in [kπ/m, (k+1)π/m] (Liu et al., ICML 2016, Eq. 6).

    Up to m = 8 as a polynomial: k counts the thresholds cos(jπ/m), j = 1…m−1, that lie above the
    cosine. At θ = π this gives k = m−1, where a floor of mθ/π would give m and a slope of the
    wrong sign. A larger m goes by the angle, at a cost that does not grow with m.

    Args:
        cosine: cos θ, any shape. Rounding beyond ±1 is harmless.
        m: margin, integer ≥ 1.
    """
    if m > LARGEST_DEGREE:
        return folded_cosine(m * angle(cosine))
    k = torch.zeros_like(cosine)
    for j in range(1, m):
        k += cosine < math.cos(j * math.pi / m)
    sign = 1 - 2 * (k % 2)
    return sign * cosine_of_multiple(cosine, m) - 2 * k
