"""Regularisers by name: their registry, and what a regulariser's own file needs.

A regulariser turns the weights of a backbone and a head into a penalty that is added to the loss.
Adding one means writing a subclass of :class:`Regulariser` with :func:`register_regulariser` above
it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from marginbench.errors import UserError
from marginbench.plugins.folder_imports import import_all_modules
from marginbench.plugins.loading import REGULARISERS_GROUP, load_group
from marginbench.plugins.parameters import parameter_model, resolve
from marginbench.plugins.registry import Registry
from marginbench.regularisers.base import LayerShape, Regulariser

__all__ = [
    "LayerShape",
    "Regulariser",
    "build_regulariser",
    "register_regulariser",
    "regulariser_class",
    "regulariser_names",
    "resolve_regulariser_parameters",
]

RegulariserClass = TypeVar("RegulariserClass", bound=type[Regulariser])


def _discover() -> None:
    import_all_modules(__name__)
    load_group(REGULARISERS_GROUP)


_registry: Registry[type[Regulariser]] = Registry("regulariser", _discover)


def register_regulariser(name: str) -> Callable[[RegulariserClass], RegulariserClass]:
    """Class decorator: make a regulariser known under a name.

    Raises:
        UserError: the name is taken or malformed, the class is no :class:`Regulariser`, or its
            parameters cannot be checked (``**`` arguments, a missing annotation).
    """

    def add(regulariser: RegulariserClass) -> RegulariserClass:
        if not (isinstance(regulariser, type) and issubclass(regulariser, Regulariser)):
            raise UserError(
                f"regulariser {name!r}: {regulariser!r} is not a subclass of "
                "marginbench.Regulariser"
            )
        parameter_model(f"regulariser {name!r}", regulariser)
        _registry.add(name, regulariser, _registry.definition(regulariser))
        return regulariser

    return add


def regulariser_names() -> list[str]:
    """The names of all registered regularisers, those of installed packages included."""
    return _registry.names()


def regulariser_class(name: str) -> type[Regulariser]:
    """The regulariser registered under a name.

    Raises:
        UserError: there is none; the message lists those that there are.
    """
    return _registry.get(name)


def resolve_regulariser_parameters(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a regulariser, checked, with the defaults filled in.

    Raises:
        UserError: an unknown regulariser or parameter, or a value that is not allowed.
    """
    return resolve(f"regulariser {name!r}", regulariser_class(name), given)


def build_regulariser(name: str, layers: Sequence[LayerShape], **parameters: Any) -> Regulariser:
    """A regulariser by its name; initialised from torch's global generator.

    Example:
        >>> regulariser = build_regulariser("mhe", [LayerShape("linear", 32, 128)], power=1)
        >>> penalty = regulariser([filters])  # (32, 128)

    Args:
        name: see above.
        layers: that it is for; their order is that of the filters it is given.
        parameters: its own.

    Raises:
        UserError: an unknown regulariser or parameter, or a value that is not allowed; the message
            names the regulariser, the parameter and what is allowed.
    """
    values = resolve_regulariser_parameters(name, parameters)
    return regulariser_class(name)(layers, **values)
