"""Softmax plus a triplet term on the normalised features of the batch."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from marginbench import Head, register_head
from marginbench.heads import WithoutMargin, classifier_weight
from marginbench.heads.geometry import norm_and_direction
from marginbench.heads.linear import linear_cross_entropy
from marginbench.heads.pairs import pair_masks
from marginbench.plugins.parameters import AddedLater, NonNegative, SquaredDistanceMargin
from marginbench.plugins.search_ranges import LogUniform, Range, Uniform


@register_head("triplet")
class Triplet(Head):
    """Cross-entropy + w·mean over triplets of max(0, d²(a, p) − d²(a, n) + α).

    d is the distance of the normalised features (Schroff et al., CVPR 2015, Eq. 2–3); a zero
    feature vector stays zero, at d = 1 from every other. Hermans et al. (2017) take d itself, and
    log(1 + exp(d(a, p) − d(a, n) + α)) for the hinge: ``distance`` and ``soft_margin``. A batch
    without any triplet contributes no triplet term.

    Args:
        in_features: D.
        num_classes: K.
        margin: α, 0 ≤ α ≤ 4, in squared distance, of which the largest possible is 4; or in the
            distance itself, of which it is 2. Hermans et al. have 0 with the soft margin.
        weight: w ≥ 0 of the triplet term.
        mining: which triplets of the batch count. "all": every one, at a memory of N³.
            "semi-hard": for each anchor and positive the nearest of the negatives that are
            farther than the positive, if there is one (Schroff et al., Section 3.2). "hard": for
            each anchor the farthest positive and the nearest negative (Hermans et al., 2017,
            Eq. 5).
        distance: "squared", or "euclidean". The same triplets are mined by either.
        soft_margin: log(1 + exp(·)) in place of the hinge (Hermans et al., Section 2).
    """

    formula = "−log softmax(Wᵀx)_y + w·mean max(0, d²(a, p) − d²(a, n) + α),  features normalised"
    paper = "Schroff et al., FaceNet, CVPR 2015, Eq. 2–3; Hermans et al., 2017, Eq. 5"
    needs_pairs = True
    softmax_over_classes = True
    without_margin = WithoutMargin({"weight": 0.0}, "softmax")

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        margin: SquaredDistanceMargin = 0.2,
        weight: NonNegative = 1.0,
        mining: Literal["all", "semi-hard", "hard"] = "semi-hard",
        distance: Annotated[Literal["squared", "euclidean"], AddedLater("squared")] = "squared",
        soft_margin: Annotated[bool, AddedLater(False)] = False,
    ) -> None:
        super().__init__(in_features, num_classes)
        self.weight = classifier_weight(num_classes, in_features)
        self.margin = margin
        self.triplet_weight = weight
        self.mining = mining
        self.distance = distance
        self.soft_margin = soft_margin

    @classmethod
    def search_space(cls, num_classes: int) -> dict[str, Range]:
        return {"margin": Uniform(0.05, 1.0), "weight": LogUniform(0.1, 10.0)}

    def loss(self, features: Tensor, labels: Tensor) -> Tensor:
        cross_entropy = linear_cross_entropy(self, self.weight, features, labels)
        return cross_entropy + self.triplet_weight * self.triplet(features, labels)

    def triplet(self, features: Tensor, labels: Tensor) -> Tensor:
        """The mean over the mined triplets; 0 where a batch holds none."""
        norms, unit = norm_and_direction(features)
        lengths = (norms > 0).to(unit.dtype)  # of the directions; that of a zero row is 0
        squared = lengths + lengths.T - 2 * unit @ unit.T
        same, different = pair_masks(labels)
        positives = torch.where(same, squared, -torch.inf)
        negatives = torch.where(different, squared, torch.inf)
        if self.mining == "all":
            return self.mean_hinge(positives[:, :, None], negatives[:, None, :])
        if self.mining == "hard":
            return self.mean_hinge(positives.amax(dim=1), negatives.amin(dim=1))
        negatives = negatives.sort(dim=1).values
        position = torch.searchsorted(negatives.detach(), squared.detach(), right=True)
        nearest = negatives.gather(1, position.clamp(max=len(labels) - 1))
        return self.mean_hinge(positives, torch.where(position < len(labels), nearest, torch.inf))

    def mean_hinge(self, positive: Tensor, negative: Tensor) -> Tensor:
        """The mean of the hinge where both squared distances are finite; shapes broadcast."""
        exists = positive.isfinite() & negative.isfinite()
        positive, negative = torch.where(exists, positive, 0), torch.where(exists, negative, 0)
        if self.distance == "euclidean":
            positive, negative = root(positive), root(negative)
        gap = positive - negative
        term = F.softplus(gap + self.margin) if self.soft_margin else F.relu(gap + self.margin)
        hinge = torch.where(exists, term, 0)
        return hinge.sum() / exists.sum().clamp(min=1)

    def scores(self, features: Tensor) -> Tensor:
        return F.linear(features, self.weight)


def root(squared: Tensor) -> Tensor:
    """√ of squared distances, 0 with slope 0 where rounding leaves nothing of them."""
    apart = squared > 0
    return torch.where(apart, torch.where(apart, squared, 1).sqrt(), 0)
