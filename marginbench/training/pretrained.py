"""The weights that a backbone begins with, out of their file, and what they want subtracted."""

from __future__ import annotations

import torch
from torch import Tensor

from marginbench.backbones import Backbone
from marginbench.backbones.initial_weights import input_mean, is_exported, load_exported
from marginbench.data.files.content import check_content
from marginbench.errors import DamagedFile, UserError
from marginbench.experiments.weight_content import weight_file
from marginbench.plugins.component import Component
from marginbench.training.weight_files import read_weight_file


def load_pretrained(backbone: Backbone, component: Component) -> None:
    """Put the weights that a cell's backbone begins with into it, with their normalisation.

    Args:
        backbone: built of ``component``; changed in place, where that names weights.
        component: of a resolved cell.

    Raises:
        UserError: the file is missing, has changed since the cell was declared, is no file of
            weights, or has those of another model.
    """
    path = weight_file(component.name, component.parameters)
    if path is None:
        return
    check_content(path, component.parameters["content"])
    owner = f"backbone {component.name!r}: the weights in {str(path)!r} are"
    try:
        tensors = read_weight_file(path)
    except DamagedFile as error:
        raise UserError(f"{owner} not readable: {error.reason}") from None
    try:
        if is_exported(tensors):
            load_exported(backbone, tensors)
        else:
            backbone.load_published(tensors)
    except UserError as error:
        raise UserError(f"{owner} {error}") from None


def mean_to_subtract(backbone: Backbone, images: Tensor) -> Tensor:
    """What is subtracted from every image: (C, H, W), float32, in [0, 1], on the CPU.

    Args:
        backbone: with the weights that it begins with.
        images: (N, C, H, W), uint8, the training images. Their mean it is where the backbone
            begins with random weights, summed exactly whatever their number.
    """
    own = input_mean(backbone)
    if own is not None:
        return own.detach().cpu().clone()
    total = torch.zeros(images.shape[1:], dtype=torch.int64)
    for part in images.split(4096):
        total += part.sum(dim=0, dtype=torch.int64)
    return (total.double() / (255 * len(images))).float()
