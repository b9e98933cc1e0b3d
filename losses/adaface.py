"""AdaFace: the kind of margin follows the feature's norm, as a stand-in for image quality."""

from __future__ import annotations

import torch
from torch import Tensor

from marginbench import CosineHead, register_head
from marginbench.heads import WithoutMargin
from marginbench.heads.additive import additive_psi
from marginbench.heads.geometry import sine
from marginbench.heads.search_spaces import angular_margin_range, scale_range
from marginbench.plugins.parameters import AngularMargin, Fraction, MarginGradient, Positive
from marginbench.plugins.search_ranges import LogUniform, Range


@register_head("adaface")
class AdaFace(CosineHead):
    """z_y = s(cos(θ − m·q) − m·q − m), z_j = s·cos θ_j (Kim et al., CVPR 2022, Section 3).

    q = clip(h·(‖x‖ − μ)/σ, −1, 1), with μ and σ the running mean and standard deviation of the
    norms: q = −1 is ArcFace, q = 0 AM-Softmax, and q = 1 a margin that turns away from hard
    samples. q counts as a constant in the gradient. θ − m·q is kept within [0, π].

    Args:
        in_features: D.
        num_classes: K.
        m: margin, 0 ≤ m < π.
        h: > 0: the share of the standard deviation that moves q from 0 to 1.
        s: scale > 0. A few classes want a small one (8 to 16), thousands of them 30 to 64.
        momentum: weight of a new batch in μ and σ.
        grad: "exact" is the formula's gradient but for q; "detached" leaves out the margin's slope.
    """

    formula = "z_y = s(cos(θ_y − m·q) − m·q − m),  q = clip(h(‖x‖ − μ)/σ, −1, 1),  z_j = s·cos θ_j"
    boundary_formula = "s(cos(θ₁ − m·q) − m·q − m − cos θ₂) = 0"
    paper = "Kim et al., AdaFace, CVPR 2022, Section 3"
    without_margin = WithoutMargin({"m": 0.0, "s": 16.0}, "normface", {"s": 16.0})

    norm_mean: Tensor
    norm_deviation: Tensor

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        m: AngularMargin = 0.4,
        h: Positive = 0.333,
        s: Positive = 64.0,
        momentum: Fraction = 0.01,
        grad: MarginGradient = "exact",
    ) -> None:
        super().__init__(in_features, num_classes, s=s, grad=grad)
        self.m = m
        self.h = h
        self.momentum = momentum
        # The start of both is that of the authors' code.
        self.register_buffer("norm_mean", torch.tensor(20.0))
        self.register_buffer("norm_deviation", torch.tensor(100.0))

    @classmethod
    def search_space(cls, num_classes: int) -> dict[str, Range]:
        return {
            "m": angular_margin_range(num_classes),
            "h": LogUniform(0.1, 1.0),
            "s": scale_range(num_classes),
        }

    @property
    def gradient_leaves_out(self) -> str:
        return super().gradient_leaves_out or "the norms within the margin"

    @torch.no_grad()
    def quality(self, norms: Tensor) -> Tensor:
        """q (N, 1) of the norms (N, 1); in training these enter μ and σ first."""
        # The limits, and the 0.001 that keeps σ from 0, are those of the authors' code.
        norms = norms.clamp(0.001, 100)
        if self.training:
            self.norm_mean.lerp_(norms.mean(), self.momentum)
            if len(norms) > 1:
                self.norm_deviation.lerp_(norms.std(), self.momentum)
        return (self.h * (norms - self.norm_mean) / (self.norm_deviation + 0.001)).clamp(-1, 1)

    def psi(self, cosine: Tensor) -> Tensor:
        return cosine - self.m

    def target(self, cosine: Tensor, norms: Tensor) -> Tensor:
        shift = self.m * self.quality(norms)
        away = additive_psi(cosine, -shift.clamp(max=0), "clamp")
        nearer = cosine * shift.cos() + sine(cosine) * shift.sin()
        nearer = torch.where(cosine <= shift.cos(), nearer, 1)
        return torch.where(shift > 0, nearer, away) - shift - self.m

    def diagnostics(self) -> dict[str, Tensor]:
        return {"norm_mean": self.norm_mean, "norm_deviation": self.norm_deviation}
