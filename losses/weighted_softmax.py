"""Class-weighted softmax, for classes of very different size."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from marginbench import Head, register_head
from marginbench.errors import UserError
from marginbench.heads import WithoutMargin, classifier_weight
from marginbench.heads.linear import linear_cross_entropy
from marginbench.plugins.parameters import NonNegative
from marginbench.plugins.search_ranges import Range


@register_head("weighted-softmax")
class WeightedSoftmax(Head):
    """(1/N) Σ_i a_{y_i}·(−log softmax(Wᵀx_i)_{y_i}) (Xie and Tu, ICCV 2015, Eq. 2).

    The mean is over the samples, as the formula has it; ``F.cross_entropy`` with weights divides
    by their sum instead, and so gives a batch of one class the loss of no weights at all.

    Args:
        in_features: D.
        num_classes: K.
        class_weights: a_j ≥ 0, one for each class, in the order of the labels. None: all 1.

    Raises:
        UserError: the number of weights is not K.
    """

    formula = "loss = −a_y·log softmax(Wᵀx)_y"
    boundary_formula = "(W₁ − W₂)x = 0"
    paper = "Xie and Tu, Holistically-Nested Edge Detection, ICCV 2015, Eq. 2"
    without_margin = WithoutMargin({"class_weights": None}, "softmax")

    softmax_over_classes = True

    class_weights: Tensor

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        class_weights: tuple[NonNegative, ...] | None = None,
    ) -> None:
        super().__init__(in_features, num_classes)
        if class_weights is not None and len(class_weights) != num_classes:
            raise UserError(
                f"head 'weighted-softmax': class_weights has {len(class_weights)} numbers; "
                f"allowed: one for each of the {num_classes} classes"
            )
        self.weight = classifier_weight(num_classes, in_features)
        weights = torch.ones(num_classes) if class_weights is None else torch.tensor(class_weights)
        self.register_buffer("class_weights", weights.float())

    @classmethod
    def search_space(cls, num_classes: int) -> dict[str, Range]:
        return {}

    def psi(self, cosine: Tensor) -> Tensor:
        """ψ(θ) = cos θ: there is no margin."""
        return cosine

    def loss(self, features: Tensor, labels: Tensor) -> Tensor:
        return linear_cross_entropy(
            self, self.weight, features, labels, class_weights=self.class_weights
        )

    def scores(self, features: Tensor) -> Tensor:
        return F.linear(features, self.weight)
