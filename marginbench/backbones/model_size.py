"""How large a network is: parameters and multiply-accumulates, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class LayerSize:
    """A convolution, linear map or pooling.

    Attributes:
        description: "3×3 convolution, 64 filters", say.
        output_shape: of one image, (C, H, W) or (D,).
        parameters: the layer's own weights and biases.
        macs: multiply-accumulates an image.
    """

    description: str
    output_shape: tuple[int, ...]
    parameters: int
    macs: int


@dataclass(frozen=True)
class ModelSize:
    """A network's layers in the order in which they run, and its totals.

    Attributes:
        layers: convolutions, linear maps and poolings.
        parameters: all trainable ones, those of normalisation and activation included.
        macs: multiply-accumulates an image, of convolutions and linear maps.
    """

    layers: tuple[LayerSize, ...]
    parameters: int
    macs: int


def model_size(model: nn.Module, image_shape: tuple[int, int, int]) -> ModelSize:
    """Measure a network with one image of that shape (C, H, W); its state is left as it was.

    Args:
        model: on any device, "meta" included, where nothing is computed.
        image_shape: (C, H, W).
    """
    layers: list[LayerSize] = []

    def note(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        layers.append(_layer_size(module, output))

    measured = (nn.Conv2d, nn.Linear, nn.MaxPool2d, nn.AvgPool2d)
    hooks = [m.register_forward_hook(note) for m in model.modules() if isinstance(m, measured)]
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            model(torch.zeros(1, *image_shape, device=device))
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return ModelSize(
        tuple(layers),
        parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        macs=sum(layer.macs for layer in layers),
    )


def _layer_size(module: nn.Module, output: Tensor) -> LayerSize:
    shape = tuple(output.shape[1:])
    parameters = sum(p.numel() for p in module.parameters(recurse=False))
    if isinstance(module, nn.Conv2d):
        height, width = module.kernel_size
        macs = output[0].numel() * module.in_channels // module.groups * height * width
        stride = f", stride {module.stride[0]}" if module.stride[0] != 1 else ""
        text = f"{height}×{width} convolution, {module.out_channels} filters{stride}"
        return LayerSize(text, shape, parameters, macs)
    if isinstance(module, nn.Linear):
        # A linear map may run at many positions (transformers): once for each.
        macs = output[0].numel() * module.in_features
        return LayerSize(f"linear map to {module.out_features}", shape, parameters, macs)
    size = module.kernel_size
    size = size[0] if isinstance(size, tuple) else size
    kind = "max" if isinstance(module, nn.MaxPool2d) else "mean"
    return LayerSize(f"{size}×{size} {kind} pooling", shape, 0, 0)
