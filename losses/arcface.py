"""ArcFace: an additive margin on the angle."""

from __future__ import annotations

from torch import Tensor

from marginbench import CosineHead, register_head
from marginbench.heads import WithoutMargin
from marginbench.heads.additive import additive_psi
from marginbench.heads.search_spaces import angular_margin_range, scale_range
from marginbench.plugins.parameters import AngularMargin, BeyondPi, MarginGradient, Positive
from marginbench.plugins.search_ranges import Range


@register_head("arcface")
class ArcFace(CosineHead):
    """z_y = s·cos(θ + m), z_j = s·cos θ_j (Deng et al., CVPR 2019, Eq. 3).

    Args:
        in_features: D.
        num_classes: K.
        m: margin in radians, 0 ≤ m < π.
        s: scale > 0. A few classes want a small one (8 to 16), thousands of them 30 to 64.
        beyond: what continues cos(θ + m) beyond θ = π − m, where it would rise again: "linear",
            "mirror", "clamp" or "none"; or "easy", no margin where cos θ ≤ 0. See
            :func:`marginbench.heads.additive.additive_psi`.
        grad: "exact" is the formula's gradient, with the factor sin(θ + m)/sin θ in the target's
            logit; "detached" leaves the factor out.

    The authors' MXNet code of 2018 and torch code of 2022 have ``beyond="linear"`` and the exact
    gradient; since December 2022 their torch code has ``beyond="none"`` and ``grad="detached"``.
    """

    formula = "z_y = s·cos(θ_y + m),  z_j = s·cos θ_j"
    boundary_formula = "s(cos(θ₁ + m) − cos θ₂) = 0"
    paper = "Deng et al., ArcFace, CVPR 2019, Eq. 3"
    without_margin = WithoutMargin({"m": 0.0, "s": 16.0}, "normface", {"s": 16.0})

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        m: AngularMargin = 0.5,
        s: Positive = 64.0,
        beyond: BeyondPi = "linear",
        grad: MarginGradient = "exact",
    ) -> None:
        super().__init__(in_features, num_classes, s=s, grad=grad)
        self.m = m
        self.beyond = beyond

    @classmethod
    def search_space(cls, num_classes: int) -> dict[str, Range]:
        return {"m": angular_margin_range(num_classes), "s": scale_range(num_classes)}

    def psi(self, cosine: Tensor) -> Tensor:
        return additive_psi(cosine, self.m, self.beyond)
