"""One-vs-rest hinge loss, the other baseline of the paper's tables."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from marginbench import Head, register_head
from marginbench.heads import classifier_weight
from marginbench.plugins.search_ranges import Choice, Range


@register_head("hinge")
class Hinge(Head):
    """One-vs-rest hinge: every class is its own binary problem, and their losses add up.

    This is Caffe's ``HingeLoss``, which the paper's tables use; torch's ``MultiMarginLoss``
    compares classes with one another and is another loss.

    Args:
        in_features: D.
        num_classes: K.
        norm: "L1" sums the violations, "L2" their squares (Tang, 2013, Eq. 8).
    """

    formula = "(1/N) Σ_i Σ_j max(0, 1 − δ_ij w_jᵀx_i)^p,  δ_ij = +1 if j = y_i, else −1"
    paper = "Tang, Deep Learning using Linear Support Vector Machines, 2013, Eq. 5 and 8"

    def __init__(
        self, in_features: int, num_classes: int, *, norm: Literal["L1", "L2"] = "L1"
    ) -> None:
        super().__init__(in_features, num_classes)
        self.weight = classifier_weight(num_classes, in_features)
        self.norm = norm

    @classmethod
    def search_space(cls, num_classes: int) -> dict[str, Range]:
        return {"norm": Choice(("L1", "L2"))}

    def loss(self, features: Tensor, labels: Tensor) -> Tensor:
        scores = self.scores(features)
        sign = torch.full_like(scores, -1).scatter(1, labels[:, None], 1)
        violation = F.relu(1 - sign * scores)
        if self.norm == "L2":
            violation = violation.square()
        return violation.sum(dim=1).mean()

    def scores(self, features: Tensor) -> Tensor:
        return F.linear(features, self.weight)
