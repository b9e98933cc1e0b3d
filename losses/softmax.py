"""Plain softmax: the baseline of every comparison."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from marginbench import Head, register_head
from marginbench.heads import classifier_weight
from marginbench.heads.linear import linear_cross_entropy
from marginbench.plugins.search_ranges import Range


@register_head("softmax")
class Softmax(Head):
    """Cross-entropy of a linear classifier (Liu et al., ICML 2016, Eq. 1–2).

    Args:
        in_features: D.
        num_classes: K.
        bias: whether the classifier has a bias. Off, as in the paper's comparison: with it,
            softmax and L-Softmax at m = 1 would differ.
    """

    formula = "z_j = w_jᵀx (+ b_j);  loss = −log softmax(z)_y"
    boundary_formula = "(W₁ − W₂)x + b₁ − b₂ = 0"
    paper = "Liu et al., Large-Margin Softmax Loss, ICML 2016, Eq. 1–2"

    softmax_over_classes = True

    def __init__(self, in_features: int, num_classes: int, *, bias: bool = False) -> None:
        super().__init__(in_features, num_classes)
        self.weight = classifier_weight(num_classes, in_features)
        self.bias = nn.Parameter(torch.zeros(num_classes)) if bias else None

    @classmethod
    def search_space(cls, num_classes: int) -> dict[str, Range]:
        return {}

    def psi(self, cosine: Tensor) -> Tensor:
        """ψ(θ) = cos θ: there is no margin."""
        return cosine

    def loss(self, features: Tensor, labels: Tensor) -> Tensor:
        return linear_cross_entropy(self, self.weight, features, labels, bias=self.bias)

    def scores(self, features: Tensor) -> Tensor:
        return F.linear(features, self.weight, self.bias)
