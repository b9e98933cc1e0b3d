"""A-Softmax on normalised features: the survey's "F-Norm SphereFace"."""

from __future__ import annotations

from torch import Tensor

from marginbench import register_head
from marginbench.heads import WithoutMargin
from marginbench.heads.search_spaces import multiplicative_space, scale_range
from marginbench.plugins.parameters import IntegerMultiplicativeMargin, NonNegative, Positive
from marginbench.plugins.search_ranges import Range

from .a_softmax import ASoftmax


@register_head("sphereface-fnorm")
class SphereFaceFNorm(ASoftmax):
    """z_y = s·ψ(θ), z_j = s·cos θ_j: A-Softmax with s in the place of ‖x‖.

    The thesis's multiplicative large-margin softmax; the boundary is s(cos mθ₁ − cos θ₂) = 0.

    Args:
        in_features: D.
        num_classes: K.
        m: margin, integer from 1 to 100.
        s: scale > 0. A few classes want a small one (8 to 16), thousands of them 30 to 64.
        lambda_base: as the other ``lambda_`` parameters, see the head a-softmax.
        lambda_gamma: ≥ 0, or None.
        lambda_power: ≥ 0.
        lambda_min: ≥ 0.
    """

    formula = "z_y = s(λ·cos θ + ψ(θ)) / (1 + λ),  ψ = (−1)^k cos mθ − 2k,  z_j = s·cos θ_j"
    boundary_formula = "s(ψ(θ₁) − cos θ₂) = 0,  ψ = cos mθ₁ up to π/m"
    paper = "Liu, doctoral thesis, Chapter 2; Deng et al., ArcFace, 2018 preprint, Table 1"
    without_margin = WithoutMargin({"m": 1, "s": 16.0}, "normface", {"s": 16.0})

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        m: IntegerMultiplicativeMargin = 4,
        s: Positive = 30.0,
        lambda_base: NonNegative = 1000.0,
        lambda_gamma: NonNegative | None = None,
        lambda_power: NonNegative = 1.0,
        lambda_min: NonNegative = 5.0,
    ) -> None:
        super().__init__(
            in_features,
            num_classes,
            m=m,
            lambda_base=lambda_base,
            lambda_gamma=lambda_gamma,
            lambda_power=lambda_power,
            lambda_min=lambda_min,
        )
        self.s = s

    @classmethod
    def search_space(cls, num_classes: int) -> dict[str, Range]:
        return {"s": scale_range(num_classes), **multiplicative_space()}

    def scale(self, norms: Tensor) -> Tensor | float:
        return self.s
