"""SphereFace-R: the multiplicative margin made easy to train."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor

from marginbench import CosineHead, register_head
from marginbench.heads import WithoutMargin
from marginbench.heads.additive import folded_cosine
from marginbench.heads.geometry import angle
from marginbench.heads.search_spaces import scale_range
from marginbench.plugins.parameters import MarginGradient, MultiplicativeMargin, Positive
from marginbench.plugins.search_ranges import Range, Uniform


@register_head("sphereface-r")
class SphereFaceR(CosineHead):
    """z_y = s·ψ(θ_y), z_j = s·η(θ_j), with a real margin m (Liu et al., TPAMI 2022, Section 3).

    The authors' code multiplies the loss by 50/s besides, which is a matter of the learning rate
    and is left out here.

    Args:
        in_features: D.
        num_classes: K.
        m: margin, real, 1 ≤ m ≤ 100.
        s: scale > 0 for ``feature_norm="hard"``.
        version: "v1": ψ = cos(min(mθ, π)), η = cos θ. "v2": ψ = cos θ, η = cos(θ/m): the other
            classes come nearer, instead of the own one going away. "v0": SphereFace's own
            ψ = (−1)^k cos mθ − 2k, η = cos θ.
        feature_norm: "hard": features normalised, scale s. "none": the scale is ‖x‖.
        grad: "detached" is the paper's characteristic gradient detachment: ψ and η count in value,
            and the slope in the cosine is that of no margin. "exact" is the formula's gradient.
    """

    formula = "z_y = s·cos(min(m·θ_y, π)),  z_j = s·cos θ_j  (v1)"
    boundary_formula = "s(cos mθ₁ − cos θ₂) = 0;  v2: s(cos θ₁ − cos(θ₂/m)) = 0"
    paper = "Liu et al., SphereFace Revived, TPAMI 2022, Section 3"
    without_margin = WithoutMargin(
        {"m": 1.0, "s": 16.0, "feature_norm": "hard"}, "normface", {"s": 16.0}
    )

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        m: MultiplicativeMargin = 1.5,
        s: Positive = 30.0,
        version: Literal["v0", "v1", "v2"] = "v1",
        feature_norm: Literal["hard", "none"] = "hard",
        grad: MarginGradient = "detached",
    ) -> None:
        super().__init__(in_features, num_classes, s=s, grad=grad)
        self.m = m
        self.version = version
        self.feature_norm = feature_norm

    @classmethod
    def search_space(cls, num_classes: int) -> dict[str, Range]:
        return {"m": Uniform(1.1, 2.0), "s": scale_range(num_classes)}

    def psi(self, cosine: Tensor) -> Tensor:
        if self.version == "v2":
            return cosine
        multiple = self.m * angle(cosine)
        if self.version == "v1":
            return multiple.clamp(max=math.pi).cos()
        return folded_cosine(multiple)

    def others(self, cosine: Tensor, own: Tensor) -> Tensor:
        if self.version != "v2":
            return cosine
        return self.with_chosen_gradient(cosine, (angle(cosine) / self.m).cos())

    def scale(self, norms: Tensor) -> Tensor | float:
        return self.s if self.feature_norm == "hard" else norms
