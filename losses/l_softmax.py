"""Large-Margin Softmax: the loss that this project sets out to reproduce."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from marginbench import Head, register_head
from marginbench.heads import WithoutMargin, classifier_weight
from marginbench.heads.annealing import MarginAnnealing
from marginbench.heads.chebyshev import multiplicative_psi
from marginbench.heads.linear import linear_cross_entropy
from marginbench.heads.search_spaces import multiplicative_space
from marginbench.plugins.parameters import IntegerMultiplicativeMargin, NonNegative
from marginbench.plugins.search_ranges import Range


@register_head("l-softmax")
class LSoftmax(Head):
    """The target logit ‖w_y‖‖x‖cos θ becomes ‖w_y‖‖x‖ψ(θ) (Liu et al., ICML 2016, Eq. 4–6).

    Neither weights nor features are normalised and there is no bias. m = 1 is softmax, to the
    bit. At a zero feature or weight vector the target logit is 0, with gradient 0.

    Args:
        in_features: D.
        num_classes: K.
        m: margin, integer from 1 to 100.
        lambda_base: start of the annealing weight λ; 0 switches annealing off.
        lambda_gamma: γ, the speed of λ's decay per iteration. None: 0.75 over the run of a cell,
            whatever its length, the course of the authors' MNIST setting (2.5e-5 · 30,000
            iterations); of a head outside a cell 2.5e-5.
        lambda_power: the power of λ's decay.
        lambda_min: λ's floor; the authors' for A-Softmax. Without one a short run with a
            high learning rate may not fit its training images.
            (See :class:`marginbench.heads.annealing.MarginAnnealing`.)
    """

    formula = "z_y = (λ‖w_y‖‖x‖cos θ + ‖w_y‖‖x‖ψ(θ)) / (1 + λ),  ψ = (−1)^k cos mθ − 2k"
    boundary_formula = "‖x‖(‖W₁‖ψ(θ₁) − ‖W₂‖cos θ₂) = 0,  ψ = cos mθ₁ up to π/m"
    paper = "Liu et al., Large-Margin Softmax Loss, ICML 2016, Eq. 4–6 and Section 5.1"
    per_iteration: ClassVar = {"lambda_gamma": 0.75}
    without_margin = WithoutMargin({"m": 1}, "softmax")

    softmax_over_classes = True

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        m: IntegerMultiplicativeMargin = 2,
        lambda_base: NonNegative = 1000.0,
        lambda_gamma: NonNegative | None = None,
        lambda_power: NonNegative = 35.0,
        lambda_min: NonNegative = 5.0,
    ) -> None:
        super().__init__(in_features, num_classes)
        self.weight = classifier_weight(num_classes, in_features)
        self.m = m
        gamma = 2.5e-5 if lambda_gamma is None else lambda_gamma
        self.annealing = MarginAnnealing(lambda_base, gamma, lambda_power, lambda_min)

    @classmethod
    def search_space(cls, num_classes: int) -> dict[str, Range]:
        return multiplicative_space()

    def psi(self, cosine: Tensor) -> Tensor:
        """ψ(θ) as a function of cos θ, element by element."""
        return multiplicative_psi(cosine, self.m)

    def loss(self, features: Tensor, labels: Tensor) -> Tensor:
        if self.m == 1:
            return linear_cross_entropy(self, self.weight, features, labels)
        self.annealing.advance()
        return linear_cross_entropy(self, self.weight, features, labels, margin=self.target)

    def target(self, plain: Tensor, norms: Tensor, cosine: Tensor) -> Tensor:
        """‖w_y‖‖x‖ψ(θ), blended by λ with the logit without margin; all (N, 1)."""
        return self.annealing.blend(plain, norms * self.psi(cosine))

    def scores(self, features: Tensor) -> Tensor:
        return F.linear(features, self.weight)

    def diagnostics(self) -> dict[str, Tensor]:
        return self.annealing.diagnostics()
