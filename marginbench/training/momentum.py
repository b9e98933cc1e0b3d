"""Stochastic gradient descent with momentum, ready without torch's compiler."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.optim.sgd import sgd

from marginbench.training.functional_optimiser import FunctionalOptimiser


class MomentumSGD(FunctionalOptimiser):
    """What ``torch.optim.SGD(..., momentum=momentum, fused=True)`` computes, to the bit.

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
        buffers = [self.state.get(p, {}).get("momentum_buffer") for p in params]
        sgd(
            params,
            gradients,
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
