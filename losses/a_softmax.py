"""A-Softmax (SphereFace): L-Softmax's angular margin on normalised class weights."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from marginbench import CosineHead, register_head
from marginbench.heads import WithoutMargin
from marginbench.heads.annealing import MarginAnnealing
from marginbench.heads.chebyshev import multiplicative_psi
from marginbench.heads.search_spaces import multiplicative_space
from marginbench.plugins.parameters import IntegerMultiplicativeMargin, NonNegative
from marginbench.plugins.search_ranges import Range


@register_head("a-softmax")
class ASoftmax(CosineHead):
    """z_y = ‖x‖ψ(θ), z_j = ‖x‖cos θ_j, ‖w_j‖ = 1, no bias (Liu et al., CVPR 2017, Eq. 6–7).

    The gradient is that of the formula. The authors' Caffe code has another: it divides the
    target's gradient for x by a length that it shares with the margin-free gradient, and gives W
    the margin-free gradient. At m = 4 and λ = 0 theirs is up to 12 times smaller. Its README says
    that the gradient is not the true one and that another may want another λ.

    Args:
        in_features: D.
        num_classes: K.
        m: margin, integer from 1 to 100. The paper's is 4.
        lambda_base: start of the annealing weight λ; 0 switches annealing off.
        lambda_gamma: γ, the speed of λ's decay per iteration. None: 200 over the run of a cell,
            whatever its length, so that λ meets its floor at the end; of a head outside a cell
            0.12, as in the authors' code, which has 28,000 iterations.
        lambda_power: the power of λ's decay.
        lambda_min: λ's floor.
            (See :class:`marginbench.heads.annealing.MarginAnnealing`.)
    """

    formula = "z_y = (λ‖x‖cos θ + ‖x‖ψ(θ)) / (1 + λ),  ψ = (−1)^k cos mθ − 2k,  ‖w‖ = 1"
    boundary_formula = "‖x‖(ψ(θ₁) − cos θ₂) = 0,  ψ = cos mθ₁ up to π/m"
    paper = "Liu et al., SphereFace, CVPR 2017, Eq. 6–7"
    per_iteration: ClassVar = {"lambda_gamma": 200.0}
    softmax_over_classes = True
    without_margin = WithoutMargin({"m": 1}, "weight-normalised-softmax")

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        m: IntegerMultiplicativeMargin = 4,
        lambda_base: NonNegative = 1000.0,
        lambda_gamma: NonNegative | None = None,
        lambda_power: NonNegative = 1.0,
        lambda_min: NonNegative = 5.0,
    ) -> None:
        super().__init__(in_features, num_classes, s=1.0)
        self.m = m
        gamma = 0.12 if lambda_gamma is None else lambda_gamma
        self.annealing = MarginAnnealing(lambda_base, gamma, lambda_power, lambda_min)

    @classmethod
    def search_space(cls, num_classes: int) -> dict[str, Range]:
        return multiplicative_space()

    def psi(self, cosine: Tensor) -> Tensor:
        return multiplicative_psi(cosine, self.m)

    def target(self, cosine: Tensor, norms: Tensor) -> Tensor:
        return self.annealing.blend(cosine, self.psi(cosine))

    def scale(self, norms: Tensor) -> Tensor | float:
        return norms

    def loss(self, features: Tensor, labels: Tensor) -> Tensor:
        self.annealing.advance()
        return super().loss(features, labels)

    def diagnostics(self) -> dict[str, Tensor]:
        return self.annealing.diagnostics()
