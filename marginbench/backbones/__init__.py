"""Backbones: images → features.

A backbone is registered under a name of its own, or belongs to a family: "timm:resnet18" is the
model resnet18 of the family timm.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from marginbench.backbones.initial_weights import (
    accept_weights,
    check_together,
    initial_weights,
)
from marginbench.errors import UserError
from marginbench.plugins.folder_imports import import_all_modules
from marginbench.plugins.parameters import resolve
from marginbench.plugins.registry import Registry


class Backbone(nn.Module):
    """Images (N, C, H, W), mean subtracted → features (N, D).

    Attributes:
        out_features: D.
        added_layers: names of its modules that no published weights have; they learn at the
            run's own rate, whatever ``optimiser.backbone_rate``.
    """

    out_features: int
    added_layers: tuple[str, ...] = ()

    def load_published(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over weights of other origin than ``marginbench export``, and their normalisation.

        Args:
            tensors: by name, as a file has them.

        Raises:
            UserError: there are none for this backbone, or they do not fit.
        """
        raise UserError(
            "not written by `marginbench export CELL --to FILE.safetensors`, which alone says how "
            "the images of such a backbone are normalised"
        )


class ModuleBackbone(Backbone):
    """A plain module as a backbone.

    Args:
        module: images (N, C, H, W) → features (N, D).
        out_features: D.
    """

    def __init__(self, module: nn.Module, out_features: int) -> None:
        super().__init__()
        self.module = module
        self.out_features = out_features

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) → (N, D)."""
        features: Tensor = self.module(images)
        return features


BackboneFunction = Callable[..., nn.Module]

_registry: Registry[BackboneFunction] = Registry("backbone", lambda: import_all_modules(__name__))


def register_backbone(name: str) -> Callable[[BackboneFunction], BackboneFunction]:
    """Function decorator: make a backbone known.

    The function takes the image shape (C, H, W) and returns a :class:`Backbone`, or any module
    that makes features (N, D) of images (N, C, H, W); D of such a module is found by one forward
    pass. Its keyword-only arguments are its parameters. Those of
    :func:`marginbench.backbones.initial_weights.initial_weights` are added to them.
    """

    def add(function: BackboneFunction) -> BackboneFunction:
        function.shared_parameters = lambda: initial_weights  # type: ignore[attr-defined]
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
        published_file: the file of a model's published weights, fetched on first use; it raises a
            UserError where there is none. None of a family that has no parameter ``pretrained``.
    """

    function: BackboneFunction
    check_model: Callable[[str], None]
    published_file: Callable[[str], Path] | None = None


_families: Registry[BackboneFamily] = Registry(
    "backbone family", lambda: import_all_modules(__name__)
)


def register_backbone_family(
    name: str,
    check_model: Callable[[str], None],
    published_file: Callable[[str], Path] | None = None,
) -> Callable[[BackboneFunction], BackboneFunction]:
    """Function decorator: make the backbones NAME:MODEL known; see :class:`BackboneFamily`."""

    def add(function: BackboneFunction) -> BackboneFunction:
        function.shared_parameters = lambda: initial_weights  # type: ignore[attr-defined]
        family = BackboneFamily(function, check_model, published_file)
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
    owner = f"backbone {name!r}"
    values = resolve(owner, backbone_function(name), given)
    check_together(owner, values)
    return values


def published_file(name: str) -> Path:
    """The file of the published weights of a family's model, fetched on first use.

    Raises:
        UserError: there are none, or they are not here and cannot be fetched.
    """
    family = _families.get(name.partition(":")[0])
    if family.published_file is None:
        raise UserError(f"backbone {name!r}: its family has no published weights")
    return family.published_file(name.partition(":")[2])


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

    No file is read: where it is to begin with weights of one, it has room for their normalisation,
    and :func:`marginbench.training.pretrained.load_pretrained` loads them.

    Raises:
        UserError: an unknown backbone or parameter, or a value that is not allowed.
    """
    function, model = _find(name)
    values = resolve_backbone_parameters(name, given)
    # Of those that all backbones share it gets what its signature asks for.
    taken = inspect.signature(function).parameters
    own = {key: value for key, value in values.items() if key in taken}
    backbone = _as_backbone(f"backbone {name!r}", function(*model, image_shape, **own), image_shape)
    accept_weights(f"backbone {name!r}", backbone, image_shape, values)
    return backbone


def _as_backbone(owner: str, made: Any, image_shape: tuple[int, int, int]) -> Backbone:
    """What a backbone's function has returned, with its D."""
    if not isinstance(made, nn.Module):
        raise UserError(f"{owner}: it returns a {type(made).__name__}; allowed: a torch.nn.Module")
    if isinstance(made, Backbone) and hasattr(made, "out_features"):
        return made
    # A copy, which may change its buffers, and draw random numbers.
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        found = copy.deepcopy(made).eval()(torch.zeros(2, *image_shape))
    if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != 2:
        kind = f"a tensor {tuple(found.shape)}" if isinstance(found, Tensor) else type(found)
        raise UserError(
            f"{owner}: it makes {kind} of images (2, {', '.join(map(str, image_shape))}); "
            "expected: features (2, D)"
        )
    if not isinstance(made, Backbone):
        return ModuleBackbone(made, found.shape[1])
    made.out_features = found.shape[1]
    return made


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
