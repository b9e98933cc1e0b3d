"""Convolution, batch normalisation and PReLU as one operation, on the CPU.

torch takes them one by one: its PReLU's backward pass takes as long as a convolution of sixteen
channels, and its convolutions leave half of the vector units idle at so few. Here a layer and its
gradient are each one call of compiled code (``fused_layers.cpp``), which rounds otherwise than
torch: a cell says ``execution="fused"``.
"""

from __future__ import annotations

import ctypes
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor, nn

from marginbench.training.native_library import native_library

MOST_CHANNELS = 96
"""With more, the convolution alone decides, and torch's is as fast."""


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
    """A sequence whose (convolution, batch normalisation, PReLU) are computed as one.

    Where they cannot be (no compiler, another device or precision, several threads, layers of
    another form) they are computed one by one.
    """

    def forward(self, input: Tensor) -> Tensor:
        """As of the sequence."""
        fused = (
            input.device.type == "cpu"
            and input.dtype == torch.float32
            and torch.get_num_threads() == 1
        )
        library = native_library() if fused else None
        if library is None:
            return super().forward(input)
        for layers in self._groups:
            if len(layers) == 3 and input.ndim == 4:
                input = _fused(library, input, *layers)
            else:
                for layer in layers:
                    input = layer(input)
        return input

    @cached_property
    def _groups(self) -> list[tuple[nn.Module, ...]]:
        layers, groups = list(self), []
        while layers:
            count = 3 if _fusable(layers[:3]) else 1
            groups.append(tuple(layers[:count]))
            del layers[:count]
        return groups


def _fusable(layers: list[nn.Module]) -> bool:
    if [type(layer) for layer in layers] != [nn.Conv2d, nn.BatchNorm2d, nn.PReLU]:
        return False
    convolution = cast(nn.Conv2d, layers[0])
    normalisation, activation = cast(nn.BatchNorm2d, layers[1]), cast(nn.PReLU, layers[2])
    kernel = convolution.kernel_size[0]
    return (
        max(convolution.in_channels, convolution.out_channels) <= MOST_CHANNELS
        and kernel % 2 == 1
        and convolution.kernel_size == (kernel, kernel)
        and convolution.stride == convolution.dilation == (1, 1)
        and convolution.padding == (kernel // 2, kernel // 2)
        and convolution.padding_mode == "zeros"
        and convolution.groups == 1
        and convolution.bias is None
        and normalisation.affine
        and normalisation.track_running_stats
        and normalisation.momentum is not None
        and activation.num_parameters == convolution.out_channels
    )


def _fused(library: ctypes.CDLL, images: Tensor, *layers: nn.Module) -> Tensor:
    convolution, normalisation, activation = cast("tuple[Any, Any, Any]", layers)
    if not normalisation.training and not torch.is_grad_enabled():
        return _evaluate(library, images, convolution, normalisation, activation)
    if not normalisation.training or images.numel() == images.shape[1]:
        # A gradient by the running statistics, or one pixel in all, which torch refuses.
        return activation(normalisation(convolution(images)))
    normalisation.num_batches_tracked.add_(1)
    return cast(
        Tensor,
        _Layer.apply(
            images,
            convolution.weight,
            normalisation.weight,
            normalisation.bias,
            activation.weight,
            normalisation,
            library,
        ),
    )


def _evaluate(
    library: ctypes.CDLL,
    images: Tensor,
    convolution: nn.Conv2d,
    normalisation: nn.BatchNorm2d,
    activation: nn.PReLU,
) -> Tensor:
    images, weight = _channels_last(images), _channels_last(convolution.weight)
    output = _output(images, weight)
    library.layer_evaluate(
        _shape(images, weight),
        *_places(images, weight, normalisation.weight, normalisation.bias, activation.weight),
        normalisation.eps,
        *_places(normalisation.running_mean, normalisation.running_var, output),
    )
    return output


class _Layer(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any,
        images: Tensor,
        weight: Tensor,
        scale: Tensor,
        bias: Tensor,
        slopes: Tensor,
        normalisation: nn.BatchNorm2d,
        library: ctypes.CDLL,
    ) -> Tensor:
        images, weight = _channels_last(images), _channels_last(weight)
        convolved, output = _output(images, weight), _output(images, weight)
        mean, deviation = torch.empty_like(bias), torch.empty_like(bias)
        shape = _shape(images, weight)
        library.layer_forward(
            shape,
            *_places(images, weight, scale, bias, slopes),
            normalisation.eps,
            normalisation.momentum,
            *_places(normalisation.running_mean, normalisation.running_var),
            *_places(convolved, mean, deviation, output),
        )
        context.save_for_backward(images, weight, scale, bias, slopes, convolved, mean, deviation)
        context.shape, context.library = shape, library
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        images, weight, scale, bias, slopes, convolved, mean, deviation = context.saved_tensors
        gradient = _channels_last(gradient)
        of_images = torch.empty_like(images) if context.needs_input_grad[0] else None
        others = [torch.empty_like(one) for one in (weight, scale, bias, slopes)]
        context.library.layer_backward(
            context.shape,
            *_places(images, weight, scale, bias, slopes, convolved, mean, deviation, gradient),
            None if of_images is None else of_images.data_ptr(),
            *_places(*others),
        )
        return of_images, *others, None, None


def _channels_last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)


def _output(images: Tensor, weight: Tensor) -> Tensor:
    size = (len(images), len(weight), *images.shape[2:])
    return torch.empty(size, memory_format=torch.channels_last)


def _shape(images: Tensor, weight: Tensor) -> ctypes.Array[ctypes.c_long]:
    count, channels, height, width = images.shape
    return (ctypes.c_long * 6)(count, height, width, channels, weight.shape[2], len(weight))


def _places(*tensors: Tensor | None) -> list[int]:
    return [tensor.data_ptr() for tensor in tensors if tensor is not None]
