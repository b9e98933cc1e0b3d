"""Backbones: images → features.

A backbone is registered under a name of its own, or belongs to a family: "timm:resnet18" is the
model resnet18 of the family timm.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from marginbench.errors import UserError
from marginbench.plugins.folder_imports import import_all_modules
from marginbench.plugins.parameters import resolve
from marginbench.plugins.registry import Registry


class Backbone(nn.Module):
    """Images (N, C, H, W), mean subtracted → features (N, D).

    Attributes:
        out_features: D.
    """

    out_features: int


BackboneFunction = Callable[..., Backbone]

_registry: Registry[BackboneFunction] = Registry("backbone", lambda: import_all_modules(__name__))


def register_backbone(name: str) -> Callable[[BackboneFunction], BackboneFunction]:
    """Function decorator: make a backbone known.

    The function takes the image shape (C, H, W); its keyword-only arguments are its parameters.
    """

    def add(function: BackboneFunction) -> BackboneFunction:
        _registry.add(name, function, _registry.definition(function))
        return function

    return add


@dataclass(frozen=True)
class BackboneFamily:
    """Backbones named FAMILY:MODEL.

    Attributes:
        function: takes the model's name and the image shape (C, H, W); its keyword-only
            arguments are the parameters, the same for every model.
        check_model: raises a UserError for a model that the family does not have.
    """

    function: BackboneFunction
    check_model: Callable[[str], None]


_families: Registry[BackboneFamily] = Registry(
    "backbone family", lambda: import_all_modules(__name__)
)


def register_backbone_family(
    name: str, check_model: Callable[[str], None]
) -> Callable[[BackboneFunction], BackboneFunction]:
    """Function decorator: make the backbones NAME:MODEL known; see :class:`BackboneFamily`."""

    def add(function: BackboneFunction) -> BackboneFunction:
        family = BackboneFamily(function, check_model)
        _families.add(name, family, _families.definition(function))
        return function

    return add


def backbone_names() -> list[str]:
    """The names of all backbones; of a family, "NAME:MODEL" with its name."""
    return [*_registry.names(), *(f"{family}:MODEL" for family in _families.names())]


def resolve_backbone_parameters(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a backbone, checked, with the defaults filled in.

    Raises:
        UserError: an unknown backbone or parameter, or a value that is not allowed.
    """
    return resolve(f"backbone {name!r}", backbone_function(name), given)


def backbone_function(name: str) -> BackboneFunction:
    """The function that builds a backbone, or those of its family.

    Raises:
        UserError: there is none; the message lists those that there are.
    """
    return _find(name)[0]


def build_backbone(
    name: str, image_shape: tuple[int, int, int], given: Mapping[str, Any]
) -> Backbone:
    """A backbone by its name, for images (C, H, W); initialised from torch's global generator.

    Raises:
        UserError: an unknown backbone or parameter, or a value that is not allowed.
    """
    function, model = _find(name)
    return function(*model, image_shape, **resolve_backbone_parameters(name, given))


def _find(name: str) -> tuple[BackboneFunction, tuple[str, ...]]:
    """The function behind a name, and the model's name if it is a family's."""
    family_name, colon, model = name.partition(":")
    if not colon:
        if name not in _registry and name in _families:
            raise UserError(f"backbone {name!r} needs a model: {name}:MODEL")
        return _registry.get(name), ()
    family = _families.get(family_name)
    family.check_model(model)
    return family.function, (model,)
