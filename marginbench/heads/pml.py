"""The losses of pytorch-metric-learning as heads: ``pml:MultiSimilarityLoss``."""

from __future__ import annotations

import copy
import difflib
import inspect
from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from marginbench.errors import UserError
from marginbench.heads.base import Head
from marginbench.heads.geometry import direction

LIBRARY = "pytorch_metric_learning"
UNFIT = (
    *("GenericPairLoss", "VICRegLoss", "InstanceLoss", "ManifoldLoss"),
    *("DynamicSoftMarginLoss", "P2SGradLoss"),
)
"""Built from other objects, or of other inputs than features and the labels of classes. Of the last
two one keeps a state that no checkpoint would have, one changes its weights behind the optimiser.
"""
NO_MINER = ("BaseMiner", "EmbeddingsAlreadyPackagedAsTriplets", "HDCMiner")
SIZES = ("num_classes", "embedding_size")
OBJECTS = (
    *SIZES,
    *("embedding_regularizer", "embedding_reg_weight", "weight_regularizer", "weight_reg_weight"),
    *("weight_init_func", "reducer", "distance", "collect_stats", "mat_based_loss"),
)
"""Parameters that the head gives itself, or that are objects, which stay as the loss has them."""
WHOLE = ("num_bins", "n_bins", "centers_per_class", "sub_centers", "b")


class MetricLearningHead(Head):
    """A loss of pytorch-metric-learning, with a miner where one is named.

    Its proxies or class weights are parameters of the head, trained as those of any other. A loss
    that has logits is tested by them. One without is tested by the nearest class mean: the class
    whose mean direction of training features has the highest cosine. The evaluation sets
    ``class_means``, (K, D), zero before it has.
    """

    class_means: Tensor
    loss_class: type[nn.Module]

    def __init__(
        self, in_features: int, num_classes: int, *, miner: str | None = None, **given: Any
    ) -> None:
        super().__init__(in_features, num_classes)
        sizes = dict(zip(SIZES, (num_classes, in_features), strict=True))
        needed = {name for name, one in _signature(self.loss_class) if one.default is one.empty}
        owner = f"head 'pml:{self.loss_class.__name__}'"
        try:
            self.metric_loss = self.loss_class(
                **{name: size for name, size in sizes.items() if name in needed}, **given
            )
        except (ValueError, TypeError, AssertionError, ArithmeticError) as error:
            shown = ", ".join(f"{name} = {value!r}" for name, value in given.items())
            raise UserError(
                f"{owner} does not allow {shown or 'its defaults'}: {error or 'no reason given'}"
            ) from error
        self.miner = None if miner is None else _miner(owner, miner)
        if self.tested_by_class_means:
            self.register_buffer("class_means", torch.zeros(num_classes, in_features))
        if self.miner is not None:
            self._try(owner, miner)

    def loss(self, features: Tensor, labels: Tensor) -> Tensor:
        if self.miner is None:
            return self.metric_loss(features, labels)
        return self.metric_loss(features, labels, self.miner(features, labels))

    def scores(self, features: Tensor) -> Tensor:
        if not self.tested_by_class_means:
            theirs: Any = self.metric_loss
            logits = theirs.get_logits(features)
            # ProxyNCA's are distances: the lower, the nearer.
            return logits if theirs.distance.is_inverted else -logits
        return direction(features) @ direction(self.class_means.to(features)).T

    def _try(self, owner: str, miner: str | None) -> None:
        """Refuse a miner that the loss does not take; nothing of the head is changed."""
        trial = copy.deepcopy(self)
        with torch.random.fork_rng(devices=[]):
            features = torch.randn(8, self.in_features)
            labels = torch.arange(8) % min(2, self.num_classes)
            try:
                trial.loss(features, labels)
            except (ValueError, NotImplementedError) as error:
                raise UserError(
                    f"{owner}: miner = {miner!r} is not allowed with this loss: {error}"
                ) from error


def metric_learning_head(name: str) -> type[Head]:
    """The head of a loss, by the loss's name. The same class for the same name.

    Raises:
        UserError: pytorch-metric-learning is not installed, or has no such loss of features and
            labels; the message has the closest names that there are.
    """
    return _head_class(name)


@cache
def _head_class(name: str) -> type[Head]:
    losses, _ = _library(name)
    there = sorted(_losses(losses))
    if name not in there:
        close = difflib.get_close_matches(name, there, n=3) or there
        raise UserError(
            f"head 'pml:{name}': pytorch-metric-learning has no loss {name!r} of features and "
            f"labels; there are: {', '.join(close)}"
        )
    loss_class = getattr(losses, name)
    parameters = dict(_parameters(loss_class))

    def __init__(  # noqa: N807
        self: MetricLearningHead, in_features: int, num_classes: int, **given: Any
    ) -> None:
        MetricLearningHead.__init__(self, in_features, num_classes, **given)

    kind = inspect.Parameter
    own = [
        *(
            kind(size, kind.POSITIONAL_OR_KEYWORD)
            for size in ("self", "in_features", "num_classes")
        ),
        *(
            kind(key, kind.KEYWORD_ONLY, default=default, annotation=annotation)
            for key, (annotation, default) in parameters.items()
        ),
    ]
    __init__.__signature__ = inspect.Signature(own)  # type: ignore[attr-defined]
    __init__.__annotations__ = {key: annotation for key, (annotation, _) in parameters.items()}
    return type(
        name,
        (MetricLearningHead,),
        {
            "__init__": __init__,
            "__module__": __name__,
            "__doc__": f"{name} of pytorch-metric-learning.",
            "loss_class": loss_class,
            "formula": f"pytorch_metric_learning.losses.{name}",
            "paper": f"pytorch-metric-learning, losses.{name}",
            "needs_pairs": not any(key in SIZES for key, _ in _required(loss_class)),
            "tested_by_class_means": not hasattr(loss_class, "get_logits"),
        },
    )


def _library(name: str) -> tuple[ModuleType, ModuleType]:
    """Its losses and its miners."""
    try:
        from pytorch_metric_learning import losses, miners
    except ModuleNotFoundError as error:
        raise UserError(
            f"head 'pml:{name}' needs pytorch-metric-learning, which is not installed: "
            "pip install 'marginbench[pml]'"
        ) from error
    return losses, miners


def _losses(module: ModuleType) -> Iterator[str]:
    base = module.BaseMetricLossFunction
    for name, value in vars(module).items():
        is_loss = inspect.isclass(value) and issubclass(value, base) and value is not base
        if is_loss and name not in UNFIT:
            yield name


def _miner(owner: str, name: str) -> nn.Module:
    _, miners = _library(name)
    there = sorted(key for key in vars(miners) if key.endswith("Miner") and key not in NO_MINER)
    if name not in there:
        raise UserError(
            f"{owner}: miner = {name!r} is not allowed; allowed: None, {', '.join(there)}"
        )
    return getattr(miners, name)()


def _signature(loss_class: type[nn.Module]) -> Iterator[tuple[str, inspect.Parameter]]:
    """The named parameters of a loss, those that it hands on to its base classes included."""
    found = set()
    for one in loss_class.__mro__:
        if not one.__module__.startswith(LIBRARY) or "__init__" not in vars(one):
            continue
        parameters = list(inspect.signature(vars(one)["__init__"]).parameters.values())[1:]
        for parameter in parameters:
            is_named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
            if is_named and parameter.name not in found:
                found.add(parameter.name)
                yield parameter.name, parameter
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            return


def _required(loss_class: type[nn.Module]) -> Iterator[tuple[str, inspect.Parameter]]:
    for name, parameter in _signature(loss_class):
        if parameter.default is parameter.empty:
            yield name, parameter


def _parameters(loss_class: type[nn.Module]) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Name, annotation and default of what a cell may set: numbers, switches and words."""
    for name, parameter in _signature(loss_class):
        if name not in OBJECTS:
            yield name, (_annotation(name, parameter.default), parameter.default)
    yield "miner", (str | None, None)


def _annotation(name: str, default: Any) -> Any:
    """What a parameter may be, as far as its default shows it."""
    if isinstance(default, bool):
        return bool
    if name == "triplets_per_anchor":
        return int | str
    if isinstance(default, str):
        return str
    number = int | float if isinstance(default, int) else float
    if name in WHOLE:
        number = int
    return number | None if default is None else number
