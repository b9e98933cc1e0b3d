"""CurricularFace: hard classes count for little at first, and for more as training goes on."""

from __future__ import annotations

import torch
from torch import Tensor

from marginbench import CosineHead, register_head
from marginbench.heads.additive import additive_psi
from marginbench.heads.search_spaces import angular_margin_range, scale_range
from marginbench.plugins.parameters import (
    AngularMargin,
    BeyondPi,
    Fraction,
    MarginGradient,
    Positive,
)
from marginbench.plugins.search_ranges import Range


@register_head("curricularface")
class CurricularFace(CosineHead):
    """z_y = s·cos(θ + m); z_j = s·cos θ_j·(t + cos θ_j) where cos θ_j > cos(θ_y + m).

    t is the running mean of the targets' cosines (Huang et al., CVPR 2020, Section 3.2): a class
    that comes nearer than the margin allows is weighed down while t is small, and up when it is
    large. t counts as a constant in the gradient. As in the authors' code it is cos(θ_y + m)
    itself that classes are compared with, whatever ``beyond`` makes of the target's logit.

    Args:
        in_features: D.
        num_classes: K.
        m: margin in radians, 0 ≤ m < π.
        s: scale > 0. A few classes want a small one (8 to 16), thousands of them 30 to 64.
        momentum: weight of a new batch in t.
        beyond: where cos(θ + m) does not hold: see
            :func:`marginbench.heads.additive.additive_psi`.
        grad: "exact" is the formula's gradient; "detached" leaves out the margin's slope.
    """

    formula = (
        "z_y = s·cos(θ_y + m);  "
        "z_j = s·cos θ_j, or s·cos θ_j(t + cos θ_j) if cos θ_j > cos(θ_y + m)"
    )
    boundary_formula = "s(cos(θ₁ + m) − cos θ₂(t + cos θ₂)) = 0 where cos θ₂ > cos(θ₁ + m)"
    paper = "Huang et al., CurricularFace, CVPR 2020, Section 3.2"

    t: Tensor

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        m: AngularMargin = 0.5,
        s: Positive = 64.0,
        momentum: Fraction = 0.01,
        beyond: BeyondPi = "linear",
        grad: MarginGradient = "exact",
    ) -> None:
        super().__init__(in_features, num_classes, s=s, grad=grad)
        self.m = m
        self.momentum = momentum
        self.beyond = beyond
        self.register_buffer("t", torch.tensor(0.0))

    @classmethod
    def search_space(cls, num_classes: int) -> dict[str, Range]:
        return {"m": angular_margin_range(num_classes), "s": scale_range(num_classes)}

    @property
    def gradient_leaves_out(self) -> str:
        return super().gradient_leaves_out or ("t" if self.training else "")

    def psi(self, cosine: Tensor) -> Tensor:
        return additive_psi(cosine, self.m, self.beyond)

    def target(self, cosine: Tensor, norms: Tensor) -> Tensor:
        if self.training:
            self.t.lerp_(cosine.detach().mean(), self.momentum)
        return self.psi(cosine)

    def others(self, cosine: Tensor, own: Tensor) -> Tensor:
        hard = cosine > additive_psi(own, self.m, "none")
        return torch.where(hard, cosine * (self.t + cosine), cosine)

    def diagnostics(self) -> dict[str, Tensor]:
        return {"t": self.t}
