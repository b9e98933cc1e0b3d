"""Convolution, batch normalisation, PReLU and the pooling after them as one operation, on the CPU.

torch takes them one by one: its PReLU's backward pass takes as long as a convolution of sixteen
channels, that of pooling a third of it, and its convolutions leave half of the vector units idle at
so few. Here a layer and its gradient are each one call of compiled code (``fused_layers.cpp``),
and layers that follow one another are one node of the graph. That rounds otherwise than torch: a
cell says ``execution="fused"``.
"""

from __future__ import annotations

import ctypes
import itertools
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor, nn

from marginbench.training.native_library import native_library

Layers = tuple[nn.Module, ...]
"""Convolution, batch normalisation and PReLU, and perhaps pooling; or one layer of another kind."""
MOST_CHANNELS = 96
"""With more, the convolution alone decides, and torch's is as fast."""
LANES = 8
"""Of a vector of the compiled code."""
_KEPT = 9
"""Tensors of a layer that its gradient needs."""


def fuse_layers(model: nn.Module) -> None:
    """Let every sequence of layers in a model run its fusable ones fused.

    The modules keep their names, parameters and buffers, so checkpoints fit with and without.

    Args:
        model: changed in place.
    """
    for module in model.modules():
        if type(module) is nn.Sequential:
            module.__class__ = FusedSequential


class FusedSequential(nn.Sequential):
    """A sequence whose (convolution, batch normalisation, PReLU) are computed as one, with the 2×2
    max pooling that follows them, if one does.

    Where they cannot be (no compiler, another device or precision, several threads, layers of
    another form or with hooks, images of another number of channels) they are computed one by one.
    """

    def forward(self, input: Tensor) -> Tensor:
        """As of the sequence."""
        fused = (
            isinstance(input, Tensor)
            and input.device.type == "cpu"
            and input.dtype == torch.float32
            and torch.get_num_threads() == 1
        )
        library = native_library() if fused else None
        if library is None:
            return super().forward(input)
        for train, group in itertools.groupby(self._groups, _trains):
            layers = list(group)
            if not train:
                input = _apply(library, input, layers)
                continue
            # Of one image, pooling may leave one pixel in all, which torch refuses to normalise.
            for run in [layers] if len(input) > 1 else [[one] for one in layers]:
                if _fits(input, run) and input.numel() > input.shape[1]:
                    input = _train(library, input, run)
                else:
                    input = _apply(library, input, run)
        return input

    @cached_property
    def _groups(self) -> list[Layers]:
        layers, groups = list(self), []
        while layers:
            count = 3 if _fusable(layers[:3]) else 1
            count += count == 3 and any(map(_pools, layers[3:4]))
            groups.append(tuple(layers[:count]))
            del layers[:count]
        return groups


def _fusable(layers: list[nn.Module]) -> bool:
    if [type(layer) for layer in layers] != [nn.Conv2d, nn.BatchNorm2d, nn.PReLU]:
        return False
    convolution = cast(nn.Conv2d, layers[0])
    normalisation, activation = cast(nn.BatchNorm2d, layers[1]), cast(nn.PReLU, layers[2])
    kernel = convolution.kernel_size[0]
    hooks = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
    return (
        not any(getattr(layer, name) for layer in layers for name in hooks)
        and max(convolution.in_channels, convolution.out_channels) <= MOST_CHANNELS
        and kernel % 2 == 1
        and convolution.kernel_size == (kernel, kernel)
        and convolution.stride == convolution.dilation == (1, 1)
        and convolution.padding == (kernel // 2, kernel // 2)
        and convolution.padding_mode == "zeros"
        and convolution.groups == 1
        and convolution.bias is None
        and convolution.weight.dtype == torch.float32
        and normalisation.num_features == convolution.out_channels
        and normalisation.affine
        and normalisation.track_running_stats
        and normalisation.momentum is not None
        and activation.num_parameters == convolution.out_channels
    )


def _pools(layer: nn.Module) -> bool:
    """Whether it is max pooling as plain networks have it: of 2×2 pixels, rounded up."""
    if type(layer) is not nn.MaxPool2d or not layer.ceil_mode or layer.return_indices:
        return False
    return (layer.kernel_size, layer.stride, layer.padding, layer.dilation) == (2, 2, 0, 1)


def _fits(images: Tensor, run: list[Layers]) -> bool:
    """Whether every layer takes the channels that it gets: compiled code reads beyond its weights
    otherwise, and torch names the fault."""
    channels = images.shape[1] if images.ndim == 4 else 0
    for convolution, *_ in run:
        if convolution.in_channels != channels:
            return False
        channels = cast(int, convolution.out_channels)
    return True


def _trains(layers: Layers) -> bool:
    """Whether compiled code takes their gradient: not by the running statistics."""
    return len(layers) > 1 and layers[1].training


def _train(library: ctypes.CDLL, images: Tensor, run: list[Layers]) -> Tensor:
    """By the batch's statistics, through layers that are to be trained one after the other."""
    normalisations, pools, parameters = [], [], []
    for layers in run:
        convolution, normalisation, activation = cast("tuple[Any, Any, Any]", layers[:3])
        normalisation.num_batches_tracked.add_(1)
        normalisations.append(normalisation)
        pools.append(len(layers) > 3)
        parameters += [convolution.weight, normalisation.weight, normalisation.bias]
        parameters.append(activation.weight)
    trained = _TrainedLayers.apply(library, normalisations, pools, images, *parameters)
    return cast(Tensor, trained)


def _apply(library: ctypes.CDLL, images: Tensor, run: list[Layers]) -> Tensor:
    """By the running statistics; by torch, layer by layer, what is not compiled."""
    for layers in run:
        evaluated = len(layers) > 1 and not layers[1].training and not torch.is_grad_enabled()
        if evaluated and _fits(images, [layers]):
            images = _evaluate(library, images, *layers)
        else:
            for layer in layers:
                images = layer(images)
    return images


def _evaluate(library: ctypes.CDLL, images: Tensor, *layers: nn.Module) -> Tensor:
    convolution, normalisation, activation = cast("tuple[Any, Any, Any]", layers[:3])
    pools = len(layers) > 3
    images, weight = _channels_last(images), _channels_last(convolution.weight)
    output = _output(images, weight, pools)
    library.layer_evaluate(
        _shape(images, weight, pools),
        *_addresses(images, weight, normalisation.weight, normalisation.bias, activation.weight),
        normalisation.eps,
        *_addresses(normalisation.running_mean, normalisation.running_var, output),
    )
    return output


class _TrainedLayers(torch.autograd.Function):
    """One or more layers, one after the other; of each, ``_KEPT`` tensors are kept."""

    @staticmethod
    def forward(
        context: Any,
        library: ctypes.CDLL,
        normalisations: list[nn.BatchNorm2d],
        pools: list[bool],
        images: Tensor,
        *parameters: Tensor,
    ) -> Tensor:
        kept: list[Tensor | None] = []
        context.shapes, context.library = [], library
        for number, (normalisation, pooled) in enumerate(zip(normalisations, pools, strict=True)):
            weight, scale, bias, slopes = parameters[4 * number : 4 * number + 4]
            images, weight = _channels_last(images), _channels_last(weight)
            convolved, output = _output(images, weight), _output(images, weight, pooled)
            mean, deviation = torch.empty_like(bias), torch.empty_like(bias)
            places = torch.empty(output.numel() + LANES, dtype=torch.uint8) if pooled else None
            shape = _shape(images, weight, pooled)
            library.layer_forward(
                shape,
                *_addresses(images, weight, scale, bias, slopes),
                normalisation.eps,
                normalisation.momentum,
                *_addresses(normalisation.running_mean, normalisation.running_var),
                *_addresses(convolved, mean, deviation, output, places),
            )
            kept += [images, weight, scale, bias, slopes, convolved, mean, deviation, places]
            context.shapes.append(shape)
            images = output
        context.save_for_backward(*kept)
        return images

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(context: Any, gradient: Tensor | None) -> tuple[Tensor | None, ...]:
        kept = context.saved_tensors
        gradients: list[Tensor] = []
        for number, shape in reversed(list(enumerate(context.shapes))):
            images, weight, scale, bias, slopes, *others = kept[_KEPT * number :][:_KEPT]
            above = _channels_last(cast(Tensor, gradient))
            needed = number > 0 or context.needs_input_grad[3]
            gradient = torch.empty_like(images) if needed else None
            own = [torch.empty_like(one) for one in (weight, scale, bias, slopes)]
            context.library.layer_backward(
                shape,
                *_addresses(images, weight, scale, bias, slopes, *others, above),
                *_addresses(gradient, *own),
            )
            gradients = own + gradients
        return None, None, None, gradient, *gradients


def _channels_last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)


def _output(images: Tensor, weight: Tensor, pools: bool = False) -> Tensor:
    height, width = images.shape[2:]
    if pools:
        height, width = (height + 1) // 2, (width + 1) // 2
    size = (len(images), len(weight), height, width)
    return torch.empty(size, memory_format=torch.channels_last)


def _shape(images: Tensor, weight: Tensor, pools: bool) -> ctypes.Array[ctypes.c_long]:
    count, channels, height, width = images.shape
    numbers = (count, height, width, channels, weight.shape[2], len(weight), pools)
    return (ctypes.c_long * len(numbers))(*numbers)


def _addresses(*tensors: Tensor | None) -> list[int | None]:
    return [None if tensor is None else tensor.data_ptr() for tensor in tensors]
