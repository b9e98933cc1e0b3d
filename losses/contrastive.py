"""Softmax plus a contrastive term on the pairs of the batch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from marginbench import Head, register_head
from marginbench.heads import WithoutMargin, classifier_weight
from marginbench.heads.linear import linear_cross_entropy
from marginbench.plugins.parameters import NonNegative, Positive
from marginbench.plugins.search_ranges import LogUniform, Range


@register_head("contrastive")
class Contrastive(Head):
    """Cross-entropy + w·(1/2P) Σ over all P pairs of the batch of the contrastive loss.

    Same class: d²; different class: max(0, M − d)², d the Euclidean distance of the features
    (Hadsell et al., CVPR 2006, Eq. 4; joined with softmax by Sun et al., NIPS 2014). A batch
    without any pair contributes no contrastive term.

    Args:
        in_features: D.
        num_classes: K.
        margin: M > 0, the distance beyond which different classes no longer repel.
        weight: w ≥ 0 of the contrastive term.
    """

    formula = "−log softmax(Wᵀx)_y + w·(1/2P) Σ_pairs [same: d²;  different: max(0, M − d)²]"
    paper = "Sun et al., Deep Learning Face Representation, NIPS 2014; Hadsell et al., CVPR 2006"
    needs_pairs = True
    softmax_over_classes = True
    without_margin = WithoutMargin({"weight": 0.0}, "softmax")

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        margin: Positive = 1.0,
        weight: NonNegative = 0.05,
    ) -> None:
        super().__init__(in_features, num_classes)
        self.weight = classifier_weight(num_classes, in_features)
        self.margin = margin
        self.contrastive_weight = weight

    @classmethod
    def search_space(cls, num_classes: int) -> dict[str, Range]:
        return {"margin": LogUniform(0.25, 4.0), "weight": LogUniform(0.005, 0.5)}

    def loss(self, features: Tensor, labels: Tensor) -> Tensor:
        cross_entropy = linear_cross_entropy(self, self.weight, features, labels)
        return cross_entropy + self.contrastive_weight * self.contrastive(features, labels)

    def contrastive(self, features: Tensor, labels: Tensor) -> Tensor:
        """(1/2P) Σ over all pairs of a batch; 0 for a batch of one."""
        first, second = torch.triu_indices(
            len(labels), len(labels), offset=1, device=features.device
        )
        squared = (features[first] - features[second]).square().sum(dim=1)
        # The root is taken of positive numbers only: its gradient at 0 is infinite.
        apart = squared > 0
        distance = torch.where(apart, torch.where(apart, squared, 1).sqrt(), 0)
        same = labels[first] == labels[second]
        terms = torch.where(same, squared, F.relu(self.margin - distance).square())
        return terms.sum() / (2 * max(len(first), 1))

    def scores(self, features: Tensor) -> Tensor:
        return F.linear(features, self.weight)
