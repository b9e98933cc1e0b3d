"""Heads by name: their registry, and everything that a head's own file needs.

A head turns features and labels into a loss, and features into logits; it owns the classifier
weights. Adding one means writing a subclass of :class:`Head` (or :class:`CosineHead`) with
:func:`register_head` above it.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from marginbench.errors import UserError
from marginbench.heads.base import Head, WithoutMargin, classifier_weight, replace_target
from marginbench.heads.cosine import CosineHead
from marginbench.plugins.loading import HEADS_GROUP, load_group
from marginbench.plugins.parameters import neutral_values, parameter_model, resolve
from marginbench.plugins.registry import Registry

__all__ = [
    "CosineHead",
    "Head",
    "WithoutMargin",
    "build_head",
    "classifier_weight",
    "head_class",
    "head_names",
    "register_head",
    "replace_target",
    "resolve_head_parameters",
]

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
            raise UserError(f"head {name!r}: {head!r} is not a subclass of marginbench.Head")
        parameter_model(f"head {name!r}", head)
        _registry.add(name, head, _registry.definition(head))
        return head

    return add


def head_names() -> list[str]:
    """The names of all registered heads, those of installed packages included."""
    return _registry.names()


def head_class(name: str) -> type[Head]:
    """The head registered under a name, or "pml:LOSS", a loss of pytorch-metric-learning.

    Raises:
        UserError: there is none; the message lists those that there are.
    """
    family, colon, model = name.partition(":")
    if colon and family == "pml":
        # By name, so that no other head counts as one that needs that library.
        return importlib.import_module("marginbench.heads.pml").metric_learning_head(model)
    return _registry.get(name)


def resolve_head_parameters(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a head, checked, with the defaults filled in.

    Those that it shares with other heads are left out at their neutral values, so that a cell from
    before there were any stays the same to the letter.

    Raises:
        UserError: an unknown head or parameter, or a value that is not allowed.
    """
    kind = head_class(name)
    values = resolve(f"head {name!r}", kind, given)
    shared = neutral_values(parameter_model(f"head {name!r}", kind.shared_parameters()))
    own = inspect.signature(kind).parameters
    return {k: v for k, v in values.items() if k in own or k not in shared or v != shared[k]}


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
    kind = head_class(name)
    own = inspect.signature(kind).parameters
    shared = {key: values.pop(key) for key in values.keys() - own.keys()}
    head = kind(in_features, num_classes, **values)
    head.many_classes = kind.shared_parameters()(**shared)
    return head
