"""The base that the heads of the cosine family share."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from marginbench.heads.base import Head, classifier_weight, replace_target
from marginbench.heads.geometry import norm_and_direction
from marginbench.plugins.parameters import MarginGradient

SLOPE_OF_MARGIN = "the slope of the margin"
"""What ``grad="detached"`` leaves out of the gradient, as :class:`CosineHead` understands it."""


class CosineHead(Head):
    """Base of the heads whose logits are scaled cosines.

    z_j = s·cos θ_j, and z_y = s·ψ(cos θ_y) for the target. A margin is the function :meth:`psi`;
    a head of this family need not define more. :meth:`target` is there for a margin that depends
    on the features' norms or on training's progress, :meth:`others` for a loss that reshapes the
    other classes' cosines too.

    Args:
        in_features: D.
        num_classes: K.
        s: scale of the cosines, > 0.
        learn_s: whether s is learnt, from that value on.
        grad: "exact", or "detached": the target's logit then has the slope of no margin at all.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        s: float,
        learn_s: bool = False,
        grad: MarginGradient = "exact",
    ) -> None:
        super().__init__(in_features, num_classes)
        self.weight = classifier_weight(num_classes, in_features)
        self.s = nn.Parameter(torch.tensor(float(s))) if learn_s else s
        self.grad = grad

    @property
    def gradient_leaves_out(self) -> str:
        return SLOPE_OF_MARGIN if self.grad == "detached" else ""

    @abstractmethod
    def psi(self, cosine: Tensor) -> Tensor:
        """ψ as a function of the target's cosine, element by element.

        Where the margin depends on more than the cosine, this is the margin at a typical norm.
        """

    def target(self, cosine: Tensor, norms: Tensor) -> Tensor:
        """The target's cosine as training sees it: ψ, or what norms and annealing make of it.

        Args:
            cosine: (N, 1), of each sample to its own class.
            norms: (N, 1), of the features.
        """
        return self.psi(cosine)

    def others(self, cosine: Tensor, own: Tensor) -> Tensor:
        """The other classes' cosines as training sees them.

        Args:
            cosine: (N, K); the target's own entry is replaced afterwards.
            own: (N, 1), the cosine of each sample to its own class, without margin.
        """
        return cosine

    def boundary(self, own: Tensor, other: Tensor) -> Tensor:
        """Zero on the decision boundary of two classes, above zero where the own one is decided.

        Args:
            own: cosine to the own class.
            other: cosine to the other class, of like shape.
        """
        return self.psi(own) - self.others(other, own)

    def scale(self, norms: Tensor) -> Tensor | float:
        """What the cosines are multiplied by, given the features' norms (N, 1)."""
        return self.s

    def loss(self, features: Tensor, labels: Tensor) -> Tensor:
        norms, cosine = self.norms_and_cosines(features)
        return F.cross_entropy(self.training_logits(norms, cosine, labels), labels)

    def training_logits(self, norms: Tensor, cosine: Tensor, labels: Tensor) -> Tensor:
        """The logits with the margin on: norms (N, 1), cosines (N, K), labels (N,) → (N, K)."""
        own = cosine.gather(1, labels[:, None])
        target = self.with_chosen_gradient(own, self.target(own, norms))
        return self.scale(norms) * replace_target(self.others(cosine, own), labels, target)

    def with_chosen_gradient(self, cosine: Tensor, margined: Tensor) -> Tensor:
        """``margined`` in value; in gradient too, or only the cosine's, as ``grad`` says."""
        if self.grad == "exact":
            return margined
        return cosine + (margined - cosine).detach()

    def scores(self, features: Tensor) -> Tensor:
        norms, cosine = self.norms_and_cosines(features)
        return self.scale(norms) * cosine

    def norms_and_cosines(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The features' norms (N, 1) and their cosines to the class weights (N, K)."""
        norms, directions = norm_and_direction(features)
        return norms, F.linear(directions, norm_and_direction(self.weight)[1])

    def diagnostics(self) -> dict[str, Tensor]:
        return {"s": self.s.detach()} if isinstance(self.s, nn.Parameter) else {}
