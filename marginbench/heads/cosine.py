"""The base that the heads of the cosine family share."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from marginbench.heads.base import Head, classifier_weight, replace_target
from marginbench.heads.chunked import chunked_cross_entropy
from marginbench.heads.class_logits import DifferentiatedLogits, LinearLogits
from marginbench.heads.geometry import norm_and_direction
from marginbench.heads.many_classes import TakenClasses, take_classes
from marginbench.plugins.parameters import MarginGradient

SLOPE_OF_MARGIN = "the slope of the margin"
"""What ``grad="detached"`` leaves out of the gradient, as :class:`CosineHead` understands it."""


class CosineHead(Head):
    """Base of the heads whose logits are scaled cosines.

    z_j = s·cos θ_j, and z_y = s·ψ(cos θ_y) for the target. A margin is the function :meth:`psi`;
    a head of this family need not define more. :meth:`target` is there for a margin that depends
    on the features' norms or on training's progress, :meth:`target_of_class` for one that differs
    from class to class, :meth:`others` for a loss that reshapes the other classes' cosines too.

    The loss takes its classes all at once, in chunks, sampled or in shards, as
    :attr:`many_classes` says, and a margin needs to know nothing of it. A subclass that defines
    ``loss``, ``training_logits`` or ``norms_and_cosines`` anew has all logits at once, unless it
    says ``softmax_over_classes = True``: that its loss is :meth:`softmax_loss` and what is free of
    the classes.

    Args:
        in_features: D.
        num_classes: K.
        s: scale of the cosines, > 0.
        learn_s: whether s is learnt, from that value on.
        grad: "exact", or "detached": the target's logit then has the slope of no margin at all.
    """

    softmax_over_classes = True

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        own = {"loss", "training_logits", "norms_and_cosines"} & vars(cls).keys()
        if own and "softmax_over_classes" not in vars(cls):
            cls.softmax_over_classes = False

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

    def target_of_class(self, cosine: Tensor, norms: Tensor, labels: Tensor) -> Tensor:
        """Like :meth:`target`, for a margin that differs from class to class.

        Args:
            cosine: (N, 1), as in :meth:`target`.
            norms: (N, 1), as in :meth:`target`.
            labels: (N,), int64, in [0, K), however the loss takes its classes.
        """
        return self.target(cosine, norms)

    def others(self, cosine: Tensor, own: Tensor) -> Tensor:
        """The other classes' cosines as training sees them, each by itself.

        Args:
            cosine: (N, K), or of some of the classes; the target's own entry is replaced
                afterwards.
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
        return self.softmax_loss(features, labels)[0]

    def softmax_loss(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The mean cross-entropy of the training logits, and the features' norms (N, 1)."""
        if self.softmax_over_classes:
            taken = take_classes(
                self.many_classes, self.weight, labels, self.num_classes, training=self.training
            )
            if taken is not None:
                return self._loss_of_taken(features, labels, taken)
        norms, cosine = self.norms_and_cosines(features)
        return F.cross_entropy(self.training_logits(norms, cosine, labels), labels), norms

    def _loss_of_taken(
        self, features: Tensor, labels: Tensor, taken: TakenClasses
    ) -> tuple[Tensor, Tensor]:
        norms, directions = norm_and_direction(features)
        # Each sample with each one's class: next to all classes that is nothing.
        own = self.cosines(taken.spread(directions), taken.rows).diagonal()[:, None]
        own = taken.total(own)
        target = self.with_chosen_gradient(own, self.target_of_class(own, norms, labels))
        scale = self.scale(norms)
        target = (scale * target)[:, 0]
        if self._others_are_plain():
            inputs = [taken.weight, scale * directions]
            loss = chunked_cross_entropy(
                lambda found: LinearLogits(found, normalised=True),
                inputs,
                taken.labels,
                target,
                chunk=taken.chunk,
                keep=taken.keep,
                shard=taken.shard,
            )
            return loss, norms
        parameters = [p for p in self.parameters() if p is not self.weight and p.requires_grad]
        scale = torch.as_tensor(scale, dtype=own.dtype, device=own.device)

        def logits(weight: Tensor, directions: Tensor, own: Tensor, scale: Tensor) -> Tensor:
            return scale * self.others(self.cosines(directions, weight), own)

        loss = chunked_cross_entropy(
            lambda found: DifferentiatedLogits(found, logits, parameters),
            [taken.weight, directions, own, scale, *parameters],
            taken.labels,
            target,
            chunk=taken.chunk,
            keep=taken.keep,
            shard=taken.shard,
        )
        return loss, norms

    def _others_are_plain(self) -> bool:
        """Whether the other classes' logits are the scaled cosines themselves."""
        kind = type(self)
        return kind.others is CosineHead.others and kind.cosines is CosineHead.cosines

    def training_logits(self, norms: Tensor, cosine: Tensor, labels: Tensor) -> Tensor:
        """The logits with the margin on: norms (N, 1), cosines (N, K), labels (N,) → (N, K)."""
        own = cosine.gather(1, labels[:, None])
        target = self.with_chosen_gradient(own, self.target_of_class(own, norms, labels))
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
        return norms, self.cosines(directions, self.weight)

    def cosines(self, directions: Tensor, weight: Tensor) -> Tensor:
        """Of unit features (N, D) to the classes of a part of the classifier, (N, its classes)."""
        return F.linear(directions, norm_and_direction(weight)[1])

    def diagnostics(self) -> dict[str, Tensor]:
        return {"s": self.s.detach()} if isinstance(self.s, nn.Parameter) else {}
