"""What a head is: features and labels → loss, features → logits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn

from marginbench.errors import UserError
from marginbench.heads.many_classes import ManyClasses, many_classes, no_many_classes
from marginbench.plugins.search_ranges import Range


class WithoutMargin(NamedTuple):
    """The identity of a head whose margin is nought with another head.

    Attributes:
        parameters: of this head, so that its margin vanishes.
        head: the name of the head that it then is.
        head_parameters: of that other head.
    """

    parameters: Mapping[str, Any]
    head: str
    head_parameters: Mapping[str, Any] = {}


class Head(nn.Module, ABC):
    """Features and labels → loss; features → logits.

    A subclass defines :meth:`loss` and :meth:`scores`. Its parameters are the keyword-only
    arguments of its ``__init__``, annotated (:mod:`marginbench.plugins.parameters` has the usual
    ranges). State that changes while training, annealing for example, lives in buffers, so that a
    checkpoint carries it. Features arrive in the precision of the head's own parameters
    (float32 unless the head was converted, which also holds without parameters), autocast off.

    A head whose target logit is a function of the angle to its class also has a method
    ``psi(cosine)``, as :class:`marginbench.heads.cosine.CosineHead` has; reports draw it.

    Args:
        in_features: D, the dimension of the features.
        num_classes: K.
    """

    formula: ClassVar[str] = ""
    """The loss or the target logit, in one line."""
    boundary_formula: ClassVar[str] = ""
    """Where class 1 is decided against class 2, in the form of the survey's table; θ₁ and θ₂ are
    the angles to both classes' weights."""
    paper: ClassVar[str] = ""
    """Where it comes from: authors, title, venue, equation."""
    needs_pairs: ClassVar[bool] = False
    """Whether a batch must hold several samples of one class for the loss to mean anything."""
    tested_by_class_means: ClassVar[bool] = False
    """Whether the head has no logits of its own: it then has a buffer ``class_means``, (K, D), the
    mean direction of each class's training features, which the evaluation sets, and by which
    :meth:`logits` tells the classes apart."""
    without_margin: ClassVar[WithoutMargin | None] = None
    """With these parameters the margin vanishes, and the loss is that of another head."""
    per_iteration: ClassVar[Mapping[str, float] | tuple[str, ...]] = ()
    """Parameters that are rates per iteration: a trial of half the length has them doubled. As a
    mapping, also the total of each over a run: a parameter that is None is total / iterations in
    every cell."""

    without_effect: ClassVar[tuple[str, ...]] = ()
    """Parameters that change nothing, and are kept for cells that set them."""

    softmax_over_classes: ClassVar[bool] = False
    """Whether the loss is a cross-entropy that takes its classes as :attr:`many_classes` says.
    Such a head has the parameters of :func:`marginbench.heads.many_classes.many_classes`."""
    many_classes: ManyClasses = ManyClasses()
    """How the loss takes its classes; :func:`marginbench.heads.build_head` sets it."""
    _precision: torch.dtype = torch.float32
    """What the head was converted to, for a head without parameters."""

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__()
        for name, value in (("in_features", in_features), ("num_classes", num_classes)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UserError(
                    f"{type(self).__name__}: {name} = {value!r} is not allowed; "
                    "allowed: integer ≥ 1"
                )
        self.in_features = in_features
        self.num_classes = num_classes

    @classmethod
    def shared_parameters(cls) -> Callable[..., Any]:
        """What declares the parameters that such heads have besides those of ``__init__``."""
        return many_classes if cls.softmax_over_classes else no_many_classes

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """The mean loss over a batch.

        Args:
            features: (N, D), any floating precision.
            labels: (N,), int64, in [0, K).

        Returns:
            A scalar in the precision of the head's parameters.
        """
        with torch.autocast(features.device.type, enabled=False):
            return self.loss(self._in_own_precision(features), labels)

    def logits(self, features: Tensor) -> Tensor:
        """Class scores for testing, the margin off. (N, D) → (N, K)."""
        with torch.autocast(features.device.type, enabled=False):
            return self.scores(self._in_own_precision(features))

    @abstractmethod
    def loss(self, features: Tensor, labels: Tensor) -> Tensor:
        """The mean loss over a batch: (N, D) and (N,) → scalar."""

    @abstractmethod
    def scores(self, features: Tensor) -> Tensor:
        """Class scores with the margin off: (N, D) → (N, K)."""

    @classmethod
    def search_space(cls, num_classes: int) -> Mapping[str, Range] | None:
        """Which of its parameters a search varies, and from what it draws them.

        What every head shares, the learning rate say, is searched besides.

        Args:
            num_classes: K, of the cells that the choice is for.

        Returns:
            Ranges by the parameters' names; empty where there is nothing of its own to choose.
            None: nothing is declared, and `marginbench tune` says so.
        """
        return None

    def classifier_weights(self) -> Tensor | None:
        """The weights by which the head tells the classes apart, (K, ..., D); None without any.

        What a regulariser acts on, and what features have angles to. Those are the tensor
        ``weight`` of a head that has one of that shape; a head that keeps them elsewhere returns
        them here.
        """
        weight = getattr(self, "weight", None)
        if not isinstance(weight, Tensor) or weight.ndim < 2:
            return None
        fits = weight.shape[0] == self.num_classes and weight.shape[-1] == self.in_features
        return weight if fits else None

    def diagnostics(self) -> dict[str, Tensor]:
        """Scalars worth a column in the history, by name; λ of an annealed margin, say."""
        return {}

    @property
    def gradient_leaves_out(self) -> str:
        """What the gradient knowingly treats as a constant, in words; "" where it is exact.

        A loss that stops the gradient somewhere, in training mode or always, says so here: its
        gradient then is not the slope of its values, but the slope with that held constant. It
        stops the gradient by ``detach`` or where gradients are switched off.
        """
        return ""

    def _in_own_precision(self, features: Tensor) -> Tensor:
        own = (p.dtype for p in self.parameters() if p.is_floating_point())
        return features.to(next(own, self._precision))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Convert the head, as :class:`torch.nn.Module` does; also one without parameters."""
        self._precision = fn(torch.empty((), dtype=self._precision)).dtype
        return super()._apply(fn, recurse)


def classifier_weight(num_classes: int, in_features: int) -> nn.Parameter:
    """Classifier weights (K, D), He-initialised: N(0, 2/D) (He et al., ICCV 2015, Eq. 10)."""
    return nn.Parameter(torch.randn(num_classes, in_features) * (2.0 / in_features) ** 0.5)


def replace_target(logits: Tensor, labels: Tensor, target: Tensor) -> Tensor:
    """The logits (N, K) with each row's target entry replaced by target (N, 1)."""
    return logits.scatter(1, labels[:, None], target)
