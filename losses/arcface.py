"""ArcFace: an additive margin on the angle."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from marginbench.geometry import sine
from marginbench.heads import CosineHead, register_head
from marginbench.parameters import Positive


@register_head("arcface")
class ArcFace(CosineHead):
    """z_y = s·cos(θ + m), z_j = s·cos θ_j (Deng et al., CVPR 2019, Eq. 3).

    cos(θ + m) falls only up to θ = π − m; ``beyond`` names what continues it from there.

    Args:
        in_features: D.
        num_classes: K.
        m: margin in radians, 0 ≤ m < π.
        s: scale > 0. A few classes want a small one (8 to 16), thousands of them 30 to 64.
        beyond: "linear": cos θ − m·sin m, as the authors' code; it jumps down at π − m.
            "mirror": −2 − cos(θ + m), which continues ψ and its slope. "none": cos(θ + m) all
            the way, which rises again.
    """

    formula = "z_y = s·cos(θ_y + m),  z_j = s·cos θ_j"
    paper = "Deng et al., ArcFace, CVPR 2019, Eq. 3"

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        m: Annotated[float, Field(ge=0, lt=math.pi)] = 0.5,
        s: Positive = 64.0,
        beyond: Literal["linear", "mirror", "none"] = "linear",
    ) -> None:
        super().__init__(in_features, num_classes, s=s)
        self.m = m
        self.beyond = beyond

    def psi(self, cosine: Tensor) -> Tensor:
        shifted = cosine * math.cos(self.m) - sine(cosine) * math.sin(self.m)
        if self.beyond == "none":
            return shifted
        linear = cosine - self.m * math.sin(self.m)
        continued = linear if self.beyond == "linear" else -2 - shifted
        return torch.where(cosine > -math.cos(self.m), shifted, continued)
