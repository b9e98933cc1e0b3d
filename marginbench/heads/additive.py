"""ψ of the additive angular margins (ArcFace and those that follow it): cos(θ + m)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from marginbench.heads.geometry import sine
from marginbench.plugins.parameters import BeyondPi


def additive_psi(cosine: Tensor, m: float | Tensor, beyond: BeyondPi) -> Tensor:
    """cos(θ + m) from cos θ, and a named rule for large θ; no acos.

    cos(θ + m) falls only up to θ = π − m, so a loss has to say what happens beyond.

    Args:
        cosine: cos θ, any shape. Rounding beyond ±1 is harmless.
        m: margin in radians in [0, π), a number or a tensor that broadcasts with ``cosine``.
        beyond: "linear": cos θ − m·sin m, the first rule of ArcFace's authors; it jumps down at
            π − m, from −1 to cos(π − m) − m·sin m. "mirror": −2 − cos(θ + m), which continues ψ
            and its slope. "clamp": −1, with slope 0. "none": cos(θ + m) all the way, which rises
            again. "easy": cos θ, no margin at all, where cos θ ≤ 0, and cos(θ + m) elsewhere; it
            jumps up by sin m at θ = π/2.
    """
    # Numbers stay numbers: a tensor made of one would be copied to the device, and waited for.
    cos_m: float | Tensor
    sin_m: float | Tensor
    if isinstance(m, Tensor):
        cos_m, sin_m = m.cos(), m.sin()
    else:
        cos_m, sin_m = math.cos(m), math.sin(m)
    shifted = cosine * cos_m - sine(cosine) * sin_m
    if beyond == "none":
        return shifted
    if beyond == "easy":
        return torch.where(cosine > 0, shifted, cosine)
    if beyond == "linear":
        continued = cosine - m * sin_m
    elif beyond == "mirror":
        continued = -2 - shifted
    else:
        continued = torch.full_like(shifted, -1)
    # θ + m > π where cos θ < cos(π − m); rounding below −1 must not count as that when m = 0.
    return torch.where(cosine.clamp(min=-1) >= -cos_m, shifted, continued)


def folded_cosine(angle: Tensor) -> Tensor:
    """(−1)^k cos φ − 2k for φ in [kπ, (k+1)π]: cos φ on [0, π], and falling ever after.

    With φ = mθ this is ψ of L-Softmax (Liu et al., ICML 2016, Eq. 6), here for a real m too. On a
    border both values of k give the same, and slope 0.

    Args:
        angle: φ ≥ 0 in radians, any shape.
    """
    k = torch.floor(angle.detach() / math.pi)
    return (1 - 2 * (k % 2)) * angle.cos() - 2 * k
