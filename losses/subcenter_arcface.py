"""Sub-center ArcFace: several centres a class, so that noisy labels find one of their own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from marginbench import CosineHead, register_head
from marginbench.heads import WithoutMargin, classifier_weight
from marginbench.heads.additive import additive_psi
from marginbench.heads.geometry import norm_and_direction
from marginbench.heads.search_spaces import angular_margin_range, scale_range
from marginbench.plugins.parameters import (
    AngularMargin,
    BeyondPi,
    MarginGradient,
    Positive,
    Subcenters,
)
from marginbench.plugins.search_ranges import Choice, Range


@register_head("subcenter-arcface")
class SubcenterArcFace(CosineHead):
    """ArcFace with cos θ_j = max over the class's centres (Deng et al., ECCV 2020, Section 3).

    Args:
        in_features: D.
        num_classes: K.
        subcenters: centres a class, integer from 1 to 100; 1 is ArcFace.
        m: margin in radians, 0 ≤ m < π.
        s: scale > 0. A few classes want a small one (8 to 16), thousands of them 30 to 64.
        beyond: where cos(θ + m) does not hold: see
            :func:`marginbench.heads.additive.additive_psi`.
        grad: "exact" is the formula's gradient; "detached" leaves out the margin's slope.
    """

    formula = "z_y = s·cos(θ_y + m),  z_j = s·cos θ_j,  cos θ_j = max_c cos θ_{j,c}"
    boundary_formula = "s(cos(θ₁ + m) − cos θ₂) = 0"
    paper = "Deng et al., Sub-center ArcFace, ECCV 2020, Section 3"
    without_margin = WithoutMargin({"subcenters": 1, "m": 0.0, "s": 16.0}, "normface", {"s": 16.0})

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        subcenters: Subcenters = 3,
        m: AngularMargin = 0.5,
        s: Positive = 64.0,
        beyond: BeyondPi = "linear",
        grad: MarginGradient = "exact",
    ) -> None:
        super().__init__(in_features, num_classes, s=s, grad=grad)
        centres = classifier_weight(num_classes * subcenters, in_features).data
        self.weight = nn.Parameter(centres.view(num_classes, subcenters, in_features))
        self.m = m
        self.beyond = beyond

    @classmethod
    def search_space(cls, num_classes: int) -> dict[str, Range]:
        return {
            "subcenters": Choice((1, 2, 3)),
            "m": angular_margin_range(num_classes),
            "s": scale_range(num_classes),
        }

    def psi(self, cosine: Tensor) -> Tensor:
        return additive_psi(cosine, self.m, self.beyond)

    def cosines(self, directions: Tensor, weight: Tensor) -> Tensor:
        centres = norm_and_direction(weight)[1]
        return torch.einsum("nd,kcd->nkc", directions, centres).amax(dim=2)
