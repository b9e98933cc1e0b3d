"""L2-constrained softmax: features on a sphere of radius α."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from marginbench import Head, register_head
from marginbench.errors import UserError
from marginbench.heads import classifier_weight
from marginbench.heads.geometry import direction
from marginbench.heads.linear import linear_cross_entropy
from marginbench.heads.search_spaces import scale_range
from marginbench.plugins.parameters import Positive, Probability
from marginbench.plugins.search_ranges import Range


def lower_bound_on_alpha(num_classes: int, p: float) -> float:
    """The least α with which a sample can reach probability p: log(p(K−2)/(1−p)).

    Ranjan et al., 2017, Section 4. The bound speaks of many classes; for K < 3 that of K = 3 is
    taken, log(p/(1−p)).

    Raises:
        UserError: p is so small that the bound is not positive, and so says nothing.
    """
    alpha = math.log(p * max(num_classes - 2, 1) / (1 - p))
    if alpha <= 0:
        raise UserError(
            f"head 'l2-softmax': p = {p!r} bounds alpha by {alpha:.3g} for {num_classes} classes; "
            "allowed: a larger p, or alpha itself"
        )
    return alpha


@register_head("l2-softmax")
class L2Softmax(Head):
    """z = Wᵀ(αx/‖x‖) + b (Ranjan et al., 2017, Eq. 3); the weights are not normalised.

    Args:
        in_features: D.
        num_classes: K.
        alpha: α > 0; where it is learnt, its start. None: the paper's lower bound for ``p``. A
            small α underfits, so that the bound is where a search starts.
        learn_alpha: whether α is learnt.
        p: the probability of the right class that the bound on α makes possible; without effect
            where ``alpha`` is given.
        bias: whether the classifier has a bias.
    """

    formula = "z = Wᵀ(αx/‖x‖) + b,  α ≥ log(p(K − 2)/(1 − p))"
    boundary_formula = "α(W₁ − W₂)x/‖x‖ + b₁ − b₂ = 0"
    paper = "Ranjan et al., L2-constrained Softmax Loss, 2017, Eq. 3"

    softmax_over_classes = True

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        alpha: Positive | None = None,
        learn_alpha: bool = False,
        p: Probability = 0.9,
        bias: bool = True,
    ) -> None:
        super().__init__(in_features, num_classes)
        self.weight = classifier_weight(num_classes, in_features)
        self.bias = nn.Parameter(torch.zeros(num_classes)) if bias else None
        radius = lower_bound_on_alpha(num_classes, p) if alpha is None else alpha
        self.alpha = nn.Parameter(torch.tensor(float(radius))) if learn_alpha else radius

    @classmethod
    def search_space(cls, num_classes: int) -> dict[str, Range]:
        return {"alpha": scale_range(num_classes)}

    def psi(self, cosine: Tensor) -> Tensor:
        """ψ(θ) = cos θ: there is no margin."""
        return cosine

    def loss(self, features: Tensor, labels: Tensor) -> Tensor:
        constrained = self.alpha * direction(features)
        return linear_cross_entropy(self, self.weight, constrained, labels, bias=self.bias)

    def scores(self, features: Tensor) -> Tensor:
        return F.linear(self.alpha * direction(features), self.weight, self.bias)

    def diagnostics(self) -> dict[str, Tensor]:
        return {"alpha": self.alpha.detach()} if isinstance(self.alpha, nn.Parameter) else {}
