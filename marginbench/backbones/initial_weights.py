"""Weights that a backbone begins with instead of random ones, and what goes with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from marginbench.errors import UserError
from marginbench.plugins.parameters import AddedLater, OutOfKey

INPUT_MEAN = "input_mean"
"""The buffer (C, H, W), in [0, 1], that a backbone with such weights has: what is subtracted from
its images, instead of the mean of the training images."""
MEAN_IMAGE = "mean_image"
"""What a file written by ``marginbench export`` calls the same."""
_BACKBONE = "backbone."
_NAMED = 3


def initial_weights(
    *,
    weights: Annotated[str | None, OutOfKey()] = None,
    content: Annotated[str, AddedLater("")] = "",
    frozen_normalisation: Annotated[bool, AddedLater(False)] = False,
) -> None:
    """The parameters that every backbone has beside its own.

    Args:
        weights: a file, safetensors or PyTorch's, by its path or relative to the data folder:
            what ``marginbench export CELL --to FILE.safetensors`` wrote of the same backbone, or
            for a timm model a file in timm's layout. Nothing in it is run.
        content: hash of that file, or of the published one; filled in, and with it given the cell
            is tied to it.
        frozen_normalisation: batch normalisation keeps the statistics, scales and shifts of the
            weights while the rest is trained.
    """


def begins_with_weights(values: Mapping[str, Any]) -> bool:
    """Whether resolved parameters of a backbone name weights to begin with."""
    return bool(values.get("weights") or values.get("pretrained"))


def check_together(owner: str, values: Mapping[str, Any]) -> None:
    """Make sure that the parameters go together.

    Args:
        owner: the backbone, for messages.
        values: all its parameters.

    Raises:
        UserError: they do not.
    """
    if values.get("weights") and values.get("pretrained"):
        raise UserError(
            f"{owner}: weights = {values['weights']!r} is not allowed with pretrained = True; "
            "allowed: one of them"
        )
    if begins_with_weights(values):
        return
    source = "weights or pretrained = True" if "pretrained" in values else "weights"
    for name in ("content", "frozen_normalisation"):
        if values[name]:
            raise UserError(
                f"{owner}: {name} = {values[name]!r} is not allowed without weights to begin "
                f"with; allowed: with {source}"
            )


def accept_weights(
    owner: str, backbone: nn.Module, image_shape: tuple[int, int, int], values: Mapping[str, Any]
) -> None:
    """Give a backbone room for the normalisation of weights, and freeze what is to be frozen.

    Args:
        owner: the backbone, for messages.
        backbone: changed in place.
        image_shape: (C, H, W).
        values: all its parameters.

    Raises:
        UserError: there is no batch normalisation to be frozen.
    """
    if begins_with_weights(values):
        backbone.register_buffer(INPUT_MEAN, torch.zeros(image_shape))
    if values["frozen_normalisation"]:
        layers = list(normalisation_layers(backbone))
        if not layers:
            raise UserError(
                f"{owner}: frozen_normalisation = True is not allowed, as it has no batch "
                "normalisation; allowed: False"
            )
        for layer in layers:
            for parameter in layer.parameters(recurse=False):
                parameter.requires_grad_(False)


def normalisation_layers(backbone: nn.Module) -> Iterable[nn.Module]:
    """The batch normalisations of a backbone, synchronised ones among them."""
    batch_normalisation = nn.modules.batchnorm._BatchNorm
    return (layer for layer in backbone.modules() if isinstance(layer, batch_normalisation))


def input_mean(backbone: nn.Module) -> Tensor | None:
    """(C, H, W), what is subtracted from the images of a backbone with given weights; else None."""
    return dict(backbone.named_buffers(recurse=False)).get(INPUT_MEAN)


def is_exported(tensors: Mapping[str, Tensor]) -> bool:
    """Whether they are those of a file that ``marginbench export`` wrote."""
    return MEAN_IMAGE in tensors and any(name.startswith(_BACKBONE) for name in tensors)


def load_exported(backbone: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Take over the backbone of an exported file, with the mean image that it was trained with.

    Args:
        backbone: of :func:`accept_weights`.
        tensors: by name, see :func:`is_exported`.

    Raises:
        UserError: they are another backbone's, or were made for images of another size.
    """
    own = input_mean(backbone)
    assert own is not None
    mean = tensors[MEAN_IMAGE]
    if mean.shape != own.shape:
        raise UserError(f"made for images of {_sizes(mean)}, and this cell's are {_sizes(own)}")
    found = {k.removeprefix(_BACKBONE): v for k, v in tensors.items() if k.startswith(_BACKBONE)}
    # Of a cell whose images are normalised by nothing but their mean, there are none of these.
    kept = {
        name: buffer
        for name, buffer in backbone.named_buffers(recurse=False)
        if name.startswith("input_")
    }
    load_named(backbone, kept | found | {INPUT_MEAN: mean})


def load_named(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Take over tensors of the same names and shapes.

    Args:
        module: changed in place.
        tensors: all of its parameters and buffers, and no others.

    Raises:
        UserError: one is missing, too many, of another shape or type, or not finite.
    """
    wanted = module.state_dict()
    missing = [name for name in wanted if name not in tensors]
    unknown = [name for name in tensors if name not in wanted]
    if missing:
        raise UserError(f"of another model: no {first_names(missing)} in it")
    if unknown:
        raise UserError(f"of another model: this one has no {first_names(unknown)}")
    for name, own in wanted.items():
        found = tensors[name]
        if found.shape != own.shape:
            raise UserError(
                f"of another model: {name} is {_sizes(found)}, and this backbone's {_sizes(own)}"
            )
        if found.is_floating_point() != own.is_floating_point():
            raise UserError(f"of another model: {name} is {found.dtype}, and not {own.dtype}")
        if not torch.isfinite(found).all():
            raise UserError(f"damaged: {name} is not finite")
    module.load_state_dict(dict(tensors))


def first_names(names: list[str]) -> str:
    """The first three, and how many more."""
    shown = ", ".join(names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED} more"


def _sizes(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a number"
