"""Stochastic gradient descent with momentum, ready without torch's compiler."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.sgd import sgd

from marginbench.training.functional_optimiser import FunctionalOptimiser


class MomentumSGD(FunctionalOptimiser):
    """What ``torch.optim.SGD(..., momentum=momentum, fused=True)`` computes, to the bit.

    A sparse gradient, that of a sample of classes, moves the rows that it has and no others.

    Args:
        groups: each with "params" and its "weight_decay".
        learning_rate: at the start; see :class:`FunctionalOptimiser`.
        momentum: in [0, 1).
        clip_norm: see :class:`FunctionalOptimiser`.
    """

    state_names = frozenset({"momentum_buffer"})

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        *,
        learning_rate: float,
        momentum: float,
        clip_norm: float = 0.0,
    ) -> None:
        super().__init__(groups, {"lr": learning_rate, "momentum": momentum}, clip_norm)

    def _step(self, group: dict[str, Any], params: list[Tensor], gradients: list[Tensor]) -> None:
        pairs = list(zip(params, gradients, strict=True))
        for parameter, gradient in pairs:
            if gradient.is_sparse:
                self._step_rows(parameter, gradient, group)
        dense = [(parameter, gradient) for parameter, gradient in pairs if not gradient.is_sparse]
        params = [parameter for parameter, _ in dense]
        buffers = [self.state.get(p, {}).get("momentum_buffer") for p in params]
        sgd(
            params,
            [gradient for _, gradient in dense],
            buffers,
            fused=True,
            weight_decay=group["weight_decay"],
            momentum=group["momentum"],
            lr=group["lr"],
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )
        if group["momentum"]:
            for parameter, buffer in zip(params, buffers, strict=True):
                self.state.setdefault(parameter, {})["momentum_buffer"] = buffer

    def _step_rows(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        """One step of the rows that a sparse gradient has.

        The other rows stay as they are, and so does their momentum: it neither decays nor moves
        them until they are drawn again, and weight decay waits as well. Each row so has the steps
        that it would have if the others had never been.
        """
        rows, values = gradient._indices()[0], gradient._values()
        own = parameter.index_select(0, rows)
        values = values.add(own, alpha=group["weight_decay"])
        if group["momentum"]:
            state = self.state.setdefault(parameter, {})
            buffer = state.get("momentum_buffer")
            if buffer is None:
                buffer = state["momentum_buffer"] = torch.zeros_like(parameter)
            values = values.add_(buffer.index_select(0, rows), alpha=group["momentum"])
            buffer.index_copy_(0, rows, values)
        parameter.index_copy_(0, rows, own - group["lr"] * values)
