"""SphereFace2: K binary problems instead of one choice among K classes."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from marginbench import CosineHead, register_head
from marginbench.heads.search_spaces import cosine_margin_range
from marginbench.plugins.parameters import (
    AtLeastOne,
    CosineMargin,
    MarginGradient,
    Positive,
    Probability,
)
from marginbench.plugins.search_ranges import LogUniform, Range, Uniform


@register_head("sphereface2")
class SphereFace2(CosineHead):
    """(λ/r)·log(1 + e^{−z_y}) + ((1−λ)/r)·Σ_{j≠y} log(1 + e^{z_j}) (Wen et al., ICLR 2022).

    z_y = r(g(cos θ_y) − m) + b and z_j = r(g(cos θ_j) + m) + b: the C-type margin of the paper's
    final form, with the similarity adjustment g(c) = 2((c+1)/2)^t − 1 and a bias b that is learnt.
    The authors' code multiplies the loss by lw = 50 besides, which is a matter of the learning
    rate and is left out here.

    Args:
        in_features: D.
        num_classes: K.
        m: margin, 0 ≤ m ≤ 2.
        s: scale > 0; r in the paper.
        positive_weight: λ, the weight of a sample's own class against all others together.
        t: exponent of the similarity adjustment, ≥ 1; 1 is none.
        grad: "detached": g and m count in value, and the slope in the cosine is r, as in the
            authors' code. "exact" is the formula's gradient.
    """

    formula = (
        "(λ/r)·log(1 + e^{−r(g(cos θ_y) − m) − b}) + ((1−λ)/r)·Σ log(1 + e^{r(g(cos θ_j) + m) + b})"
    )
    boundary_formula = "r(g(cos θ₁) − m) + b = 0"
    paper = "Wen et al., SphereFace2, ICLR 2022, Section 3"

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        m: CosineMargin = 0.4,
        s: Positive = 40.0,
        positive_weight: Probability = 0.7,
        t: AtLeastOne = 3.0,
        grad: MarginGradient = "detached",
    ) -> None:
        super().__init__(in_features, num_classes, s=s, grad=grad)
        self.m = m
        self.positive_weight = positive_weight
        self.t = t
        self.bias = nn.Parameter(torch.tensor(self.balancing_bias()))

    @classmethod
    def search_space(cls, num_classes: int) -> dict[str, Range]:
        return {
            "m": cosine_margin_range(num_classes),
            "s": LogUniform(8.0, 64.0),
            "positive_weight": Uniform(0.5, 0.9),
        }

    def balancing_bias(self) -> float:
        """b for which, at right angles to all classes, both terms pull with equal force.

        The root of λ·σ(−s(g₀ − m) − b) = (1−λ)(K−1)·σ(s(g₀ + m) + b), g₀ = g(0).
        """
        middle = 2 * 0.5**self.t - 1
        own, others = self.s * (middle - self.m), self.s * (middle + self.m)
        if self.num_classes == 1:
            return -own
        ratio = self.positive_weight / ((1 - self.positive_weight) * (self.num_classes - 1))
        root = math.hypot(1 - ratio, 2 * math.sqrt(ratio) * math.exp((own - others) / 2))
        # Two forms of one root: each adds numbers of like sign, and so loses no digits.
        if ratio > 1:
            return math.log((ratio - 1 + root) / 2) - own
        return math.log(2 * ratio / (1 - ratio + root)) - others

    def adjusted(self, cosine: Tensor) -> Tensor:
        """g(c) = 2((c + 1)/2)^t − 1."""
        return 2 * F.relu((cosine + 1) / 2).pow(self.t) - 1

    def psi(self, cosine: Tensor) -> Tensor:
        return self.adjusted(cosine) - self.m

    def others(self, cosine: Tensor, own: Tensor) -> Tensor:
        return self.with_chosen_gradient(cosine, self.adjusted(cosine) + self.m)

    def boundary(self, own: Tensor, other: Tensor) -> Tensor:
        # A binary problem of its own: the other class has no part in it, but the bias has.
        return self.psi(own) + self.bias / self.s

    def loss(self, features: Tensor, labels: Tensor) -> Tensor:
        norms, cosine = self.norms_and_cosines(features)
        logits = self.training_logits(norms, cosine, labels) + self.bias
        own = torch.zeros_like(logits).scatter(1, labels[:, None], 1)
        losses = F.binary_cross_entropy_with_logits(logits, own, reduction="none")
        weight = self.positive_weight * own + (1 - self.positive_weight) * (1 - own)
        return (weight * losses).sum(dim=1).mean() / self.s

    def scores(self, features: Tensor) -> Tensor:
        return self.s * self.adjusted(self.norms_and_cosines(features)[1]) + self.bias
