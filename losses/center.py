"""Softmax plus center loss: features are drawn to their class's centre."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from marginbench import Head, register_head
from marginbench.heads import WithoutMargin, classifier_weight
from marginbench.heads.linear import linear_cross_entropy
from marginbench.plugins.parameters import Fraction, NonNegative
from marginbench.plugins.search_ranges import LogUniform, Range


@register_head("center")
class Center(Head):
    """Cross-entropy + λ·(1/2N) Σ_i ‖x_i − c_{y_i}‖² (Wen et al., ECCV 2016, Eq. 5).

    The centres c, zero at first, are no weights: after each batch those of its classes move by
    −α·Σ_i (c_j − x_i)/(1 + n_j), the sum over its n_j images of class j (Eq. 4). In the gradient
    they are constants. The term is a mean over the batch, as in the authors' Caffe code; the paper
    writes a sum.

    Args:
        in_features: D.
        num_classes: K.
        weight: λ ≥ 0. The paper's is 0.003, with 512 features of no fixed length.
        center_rate: α, from 0, where the centres stay zero, to 1; the paper's is 0.5.
    """

    formula = "−log softmax(Wᵀx)_y + (λ/2)‖x − c_y‖²,  c_y ← c_y − α·Σ(c_y − x)/(1 + n_y)"
    paper = "Wen et al., A Discriminative Feature Learning Approach, ECCV 2016, Eq. 4–5"
    softmax_over_classes = True
    without_margin = WithoutMargin({"weight": 0.0}, "softmax")

    centers: Tensor

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        weight: NonNegative = 0.003,
        center_rate: Fraction = 0.5,
    ) -> None:
        super().__init__(in_features, num_classes)
        self.weight = classifier_weight(num_classes, in_features)
        self.center_weight = weight
        self.center_rate = center_rate
        self.register_buffer("centers", torch.zeros(num_classes, in_features))

    @classmethod
    def search_space(cls, num_classes: int) -> dict[str, Range]:
        return {"weight": LogUniform(0.0003, 0.1)}

    def loss(self, features: Tensor, labels: Tensor) -> Tensor:
        cross_entropy = linear_cross_entropy(self, self.weight, features, labels)
        away = features - self.centers.index_select(0, labels)
        if self.training:
            self._move(away.detach(), labels)
        return cross_entropy + self.center_weight * away.square().sum(dim=1).mean() / 2

    def _move(self, away: Tensor, labels: Tensor) -> None:
        """Move the centres by the batch, whose features are so far away from theirs (N, D)."""
        # Counted sample by sample: there may be far more classes than a batch has samples.
        counts = (labels[:, None] == labels[None, :]).sum(dim=1, keepdim=True)
        self.centers.index_add_(0, labels, self.center_rate * away / (1 + counts))

    def scores(self, features: Tensor) -> Tensor:
        return F.linear(features, self.weight)
