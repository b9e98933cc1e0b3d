"""Batch normalisation over the batches of several processes, on GPUs and on CPUs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn

from marginbench.errors import UserError


def synchronise_normalisation(model: nn.Module, device: torch.device) -> None:
    """Make every batch normalisation of a model take its statistics over all processes.

    The modules keep their names, parameters and buffers, so checkpoints fit with and without. On
    CUDA they become ``torch.nn.SyncBatchNorm``, which does not run on the CPU; there this
    project's own does the same.

    Args:
        model: changed in place.
        device: where it lives.
    """
    for name, child in list(model.named_children()):
        # Only batch normalisation itself: a subclass (timm's, with an activation) adds to it.
        if type(child) in (nn.BatchNorm1d, nn.BatchNorm2d):
            if device.type == "cuda":
                setattr(model, name, nn.SyncBatchNorm.convert_sync_batchnorm(child))
            else:
                child.__class__ = _SynchronisedBatchNorm
        elif isinstance(child, nn.BatchNorm2d):
            _synchronise_subclass(model, name, child, device)
        else:
            synchronise_normalisation(child, device)


def _synchronise_subclass(
    model: nn.Module, name: str, child: nn.BatchNorm2d, device: torch.device
) -> None:
    from timm.layers import BatchNormAct2d, convert_sync_batchnorm

    if type(child) is not BatchNormAct2d:
        raise UserError(
            f"the backbone's layer {name!r} is a {type(child).__name__}, whose statistics cannot "
            "be taken over several processes; train this cell in one process"
        )
    if device.type == "cuda":
        setattr(model, name, convert_sync_batchnorm(child))
    else:
        child.__class__ = _SynchronisedBatchNormAct  # type: ignore[assignment]


class _SynchronisedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Ioffe and Szegedy, 2015, with mean and variance over every process's (N, C, …)."""

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        axes = [0, *range(2, input.ndim)]
        shape = [1, -1, *[1] * (input.ndim - 2)]
        count = input.numel() // input.shape[1] * distributed.get_world_size()
        mean = _Sum.apply(input.sum(dim=axes)) / count
        centred = input - mean.view(shape)
        variance = _Sum.apply(centred.square().sum(dim=axes)) / count
        assert self.num_batches_tracked is not None
        assert self.running_mean is not None and self.running_var is not None  # noqa: PT018
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean, share)
            self.running_var.lerp_(variance * (count / max(count - 1, 1)), share)
        scaled = centred * torch.rsqrt(variance + self.eps).view(shape)
        if not self.affine:
            return scaled
        return scaled * self.weight.view(shape) + self.bias.view(shape)


class _SynchronisedBatchNormAct(_SynchronisedBatchNorm):
    """timm's BatchNormAct2d: followed by its dropout and its activation."""

    act: nn.Module
    drop: nn.Module

    def forward(self, input: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(input)))


class _Sum(torch.autograd.Function):
    """The sum over all processes; so is its gradient, as each holds a part of what follows."""

    @staticmethod
    def forward(context: Any, value: Tensor) -> Tensor:
        total = value.contiguous().clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        distributed.all_reduce(total)
        return total
