"""The combined margin: multiplicative, additive in the angle and additive in the cosine at once."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from marginbench import CosineHead, register_head
from marginbench.heads import WithoutMargin
from marginbench.heads.additive import folded_cosine
from marginbench.heads.geometry import angle
from marginbench.heads.search_spaces import angular_margin_range, scale_range
from marginbench.plugins.parameters import (
    AngularMargin,
    CosineMargin,
    MarginGradient,
    MultiplicativeMargin,
    Positive,
)
from marginbench.plugins.search_ranges import Range, Uniform


@register_head("combined-margin")
class CombinedMargin(CosineHead):
    """z_y = s(cos(m1·θ + m2) − m3), z_j = s·cos θ_j (Deng et al., CVPR 2019, Eq. 4).

    (1, m, 0) is ArcFace, (1, 0, m) AM-Softmax, (m, 0, 0) A-Softmax on normalised features.

    Args:
        in_features: D.
        num_classes: K.
        m1: factor of the angle, 1 ≤ m1 ≤ 100.
        m2: what is added to the angle, radians, 0 ≤ m2 < π.
        m3: what is taken from the cosine, 0 ≤ m3 ≤ 2.
        s: scale > 0. A few classes want a small one (8 to 16), thousands of them 30 to 64.
        beyond: what continues cos φ where φ = m1·θ + m2 exceeds π. "mirror": (−1)^k cos φ − 2k
            on [kπ, (k+1)π], which falls all the way; "clamp": −1; "none": cos φ, which rises
            again (the authors' code). "easy": as "none", and no margin at all where
            cos θ ≤ m3: the easy margin of ArcFace's code at (1, m, 0), and the condition
            cos θ > m of AM-Softmax's Caffe code at (1, 0, m).
        grad: "exact" is the formula's gradient; "detached" leaves out the margin's slope.
    """

    formula = "z_y = s(cos(m1·θ_y + m2) − m3),  z_j = s·cos θ_j"
    boundary_formula = "s(cos(m1·θ₁ + m2) − m3 − cos θ₂) = 0"
    paper = "Deng et al., ArcFace, CVPR 2019, Eq. 4"
    without_margin = WithoutMargin(
        {"m1": 1.0, "m2": 0.0, "m3": 0.0, "s": 16.0}, "normface", {"s": 16.0}
    )

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        m1: MultiplicativeMargin = 1.0,
        m2: AngularMargin = 0.3,
        m3: CosineMargin = 0.2,
        s: Positive = 64.0,
        beyond: Literal["mirror", "clamp", "none", "easy"] = "mirror",
        grad: MarginGradient = "exact",
    ) -> None:
        super().__init__(in_features, num_classes, s=s, grad=grad)
        self.m1 = m1
        self.m2 = m2
        self.m3 = m3
        self.beyond = beyond

    @classmethod
    def search_space(cls, num_classes: int) -> dict[str, Range]:
        return {
            "m1": Uniform(1.0, 1.5),
            "m2": angular_margin_range(num_classes),
            "m3": Uniform(0.0, 0.35),
            "s": scale_range(num_classes),
        }

    def psi(self, cosine: Tensor) -> Tensor:
        phi = self.m1 * angle(cosine) + self.m2
        if self.beyond == "mirror":
            return folded_cosine(phi) - self.m3
        if self.beyond == "clamp":
            phi = phi.clamp(max=math.pi)
        margined = phi.cos() - self.m3
        if self.beyond == "easy":
            return torch.where(cosine > self.m3, margined, cosine)
        return margined
