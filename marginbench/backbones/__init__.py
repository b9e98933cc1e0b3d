"""Backbones: images → features."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from marginbench.folder_imports import import_all_modules
from marginbench.parameters import resolve
from marginbench.registry import Registry


class Backbone(nn.Module):
    """Images (N, C, H, W), mean subtracted → features (N, D).

    Attributes:
        out_features: D.
    """

    out_features: int


BackboneFunction = Callable[..., Backbone]

_registry: Registry[BackboneFunction] = Registry(
    "backbone", lambda: import_all_modules(__name__, __path__)
)


def register_backbone(name: str) -> Callable[[BackboneFunction], BackboneFunction]:
    """Function decorator: make a backbone known.

    The function takes the image shape (C, H, W); its keyword-only arguments are its parameters.
    """

    def add(function: BackboneFunction) -> BackboneFunction:
        _registry.add(name, function, _registry.definition(function))
        return function

    return add


def backbone_names() -> list[str]:
    """The names of all backbones."""
    return _registry.names()


def resolve_backbone_parameters(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a backbone, checked, with the defaults filled in.

    Raises:
        UserError: an unknown backbone or parameter, or a value that is not allowed.
    """
    return resolve(f"backbone {name!r}", _registry.get(name), given)


def build_backbone(
    name: str, image_shape: tuple[int, int, int], given: Mapping[str, Any]
) -> Backbone:
    """A backbone by its name, for images (C, H, W); initialised from torch's global generator.

    Raises:
        UserError: an unknown backbone or parameter, or a value that is not allowed.
    """
    return _registry.get(name)(image_shape, **resolve_backbone_parameters(name, given))
