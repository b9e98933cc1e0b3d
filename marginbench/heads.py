"""The contract of a head, its registry, and the base that cosine-margin heads share.

A head turns features and labels into a loss, and features into logits; it owns the classifier
weights. Adding one means writing a subclass of :class:`Head` (or :class:`CosineHead`) with
:func:`register_head` above it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from marginbench.errors import UserError
from marginbench.geometry import norm_and_direction
from marginbench.parameters import parameter_model, resolve
from marginbench.plugins import HEADS_GROUP, load_group
from marginbench.registry import Registry


class Head(nn.Module, ABC):
    """Features and labels → loss; features → logits.

    A subclass defines :meth:`loss` and :meth:`scores`. Its parameters are the keyword-only
    arguments of its ``__init__``, annotated (``marginbench.parameters`` has the usual ranges).
    State that changes while training, annealing for example, lives in buffers, so that a
    checkpoint carries it. Features arrive in the precision of the head's own parameters
    (float32 unless the head was converted), with autocast off.

    Args:
        in_features: D, the dimension of the features.
        num_classes: K.
    """

    formula: ClassVar[str] = ""
    """The loss or the target logit, in one line."""
    paper: ClassVar[str] = ""
    """Where it comes from: authors, title, venue, equation."""
    needs_pairs: ClassVar[bool] = False
    """Whether a batch must hold several samples of one class for the loss to mean anything."""

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

    def diagnostics(self) -> dict[str, Tensor]:
        """Scalars worth a column in the history, by name; λ of an annealed margin, say."""
        return {}

    def _in_own_precision(self, features: Tensor) -> Tensor:
        own = next((p.dtype for p in self.parameters() if p.is_floating_point()), torch.float32)
        return features.to(own)


def classifier_weight(num_classes: int, in_features: int) -> nn.Parameter:
    """Classifier weights (K, D), He-initialised: N(0, 2/D) (He et al., ICCV 2015, Eq. 10)."""
    return nn.Parameter(torch.randn(num_classes, in_features) * (2.0 / in_features) ** 0.5)


def replace_target(logits: Tensor, labels: Tensor, target: Tensor) -> Tensor:
    """The logits (N, K) with each row's target entry replaced by target (N, 1)."""
    return logits.scatter(1, labels[:, None], target)


class CosineHead(Head):
    """Base of the heads whose logits are scaled cosines.

    z_j = s·cos θ_j, and z_y = s·ψ(cos θ_y) for the target. A margin is the function :meth:`psi`;
    a head of this family need not define more.

    Args:
        in_features: D.
        num_classes: K.
        s: scale of the cosines, > 0.
    """

    def __init__(self, in_features: int, num_classes: int, *, s: float) -> None:
        super().__init__(in_features, num_classes)
        self.s = s
        self.weight = classifier_weight(num_classes, in_features)

    @abstractmethod
    def psi(self, cosine: Tensor) -> Tensor:
        """ψ as a function of the target's cosine, element by element."""

    def target(self, cosine: Tensor) -> Tensor:
        """The target's cosine (N, 1) as training sees it: ψ, or what annealing makes of it."""
        return self.psi(cosine)

    def scale(self, norms: Tensor) -> Tensor | float:
        """What the cosines are multiplied by, given the features' norms (N, 1)."""
        return self.s

    def loss(self, features: Tensor, labels: Tensor) -> Tensor:
        norms, cosine = self.norms_and_cosines(features)
        target = self.target(cosine.gather(1, labels[:, None]))
        return F.cross_entropy(self.scale(norms) * replace_target(cosine, labels, target), labels)

    def scores(self, features: Tensor) -> Tensor:
        norms, cosine = self.norms_and_cosines(features)
        return self.scale(norms) * cosine

    def norms_and_cosines(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The features' norms (N, 1) and their cosines to the class weights (N, K)."""
        norms, directions = norm_and_direction(features)
        return norms, F.linear(directions, norm_and_direction(self.weight)[1])


HeadClass = TypeVar("HeadClass", bound=type[Head])

_registry: Registry[type[Head]] = Registry("head", lambda: load_group(HEADS_GROUP))


def register_head(name: str) -> Callable[[HeadClass], HeadClass]:
    """Class decorator: make a head known under a name.

    Raises:
        UserError: the name is taken or malformed, the class is no :class:`Head`, or its
            parameters cannot be checked (``**`` arguments, a missing annotation).
    """

    def add(head: HeadClass) -> HeadClass:
        if not (isinstance(head, type) and issubclass(head, Head)):
            raise UserError(f"head {name!r}: {head!r} is not a subclass of marginbench.heads.Head")
        parameter_model(f"head {name!r}", head)
        _registry.add(name, head, f"{head.__module__}.{head.__qualname__}")
        return head

    return add


def head_names() -> list[str]:
    """The names of all registered heads, those of installed packages included."""
    return _registry.names()


def head_class(name: str) -> type[Head]:
    """The head registered under a name.

    Raises:
        UserError: there is none; the message lists those that there are.
    """
    return _registry.get(name)


def resolve_head_parameters(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a head, checked, with the defaults filled in.

    Raises:
        UserError: an unknown head or parameter, or a value that is not allowed.
    """
    return resolve(f"head {name!r}", head_class(name), given)


def build_head(name: str, in_features: int, num_classes: int, **parameters: Any) -> Head:
    """A head by its name.

    Example:
        >>> head = build_head("arcface", in_features=64, num_classes=10, m=0.2, s=16)
        >>> loss = head(features, labels)
        >>> predicted = head.logits(features).argmax(dim=1)

    Raises:
        UserError: an unknown head or parameter, or a value that is not allowed; the message names
            the head, the parameter and what is allowed.
    """
    values = resolve_head_parameters(name, parameters)
    return head_class(name)(in_features, num_classes, **values)
