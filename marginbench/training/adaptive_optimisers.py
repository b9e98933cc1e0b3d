"""AdamW and RMSprop, ready without torch's compiler."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.optim.adamw import adamw
from torch.optim.rmsprop import rmsprop

from marginbench.heads import geometry
from marginbench.training.functional_optimiser import FunctionalOptimiser


class AdamW(FunctionalOptimiser):
    """What ``torch.optim.AdamW(..., fused=True)`` computes, to the bit.

    Loshchilov and Hutter, ICLR 2019: the weights decay by learning rate times weight decay, apart
    from the gradient.

    Args:
        groups: each with "params" and its "weight_decay".
        learning_rate: at the start.
        momentum: β₁, in [0, 1).
        squares_decay: β₂, in [0, 1).
        epsilon: added to the root of the mean square, > 0.
        clip_norm: see :class:`FunctionalOptimiser`.
    """

    state_names = frozenset({"step", "exp_avg", "exp_avg_sq"})

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        *,
        learning_rate: float,
        momentum: float,
        squares_decay: float,
        epsilon: float,
        clip_norm: float = 0.0,
    ) -> None:
        settings = {"lr": learning_rate, "betas": (momentum, squares_decay), "eps": epsilon}
        super().__init__(groups, settings, clip_norm)

    def _step(self, group: dict[str, Any], params: list[Tensor], gradients: list[Tensor]) -> None:
        adamw(
            params,
            gradients,
            self._states(params, "exp_avg"),
            self._states(params, "exp_avg_sq"),
            [],
            self._states(params, "step", scalar=True),
            fused=True,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


class RMSprop(FunctionalOptimiser):
    """What ``torch.optim.RMSprop`` computes, on the CPU to the bit.

    Args:
        groups: each with "params" and its "weight_decay", which is added to the gradient.
        learning_rate: at the start.
        momentum: in [0, 1).
        squares_decay: of the mean of squared gradients, in [0, 1).
        epsilon: added to the root of the mean square, > 0.
        clip_norm: see :class:`FunctionalOptimiser`.
    """

    state_names = frozenset({"step", "square_avg", "momentum_buffer"})

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        *,
        learning_rate: float,
        momentum: float,
        squares_decay: float,
        epsilon: float,
        clip_norm: float = 0.0,
    ) -> None:
        settings = {
            "lr": learning_rate,
            "momentum": momentum,
            "alpha": squares_decay,
            "eps": epsilon,
        }
        super().__init__(groups, settings, clip_norm)

    def _step(self, group: dict[str, Any], params: list[Tensor], gradients: list[Tensor]) -> None:
        # On CUDA this is the way by which a learning rate that is a tensor stays on the device.
        on_device = bool(params) and not geometry.is_on_host(params[0])
        momentum = group["momentum"]
        rmsprop(
            params,
            gradients,
            self._states(params, "square_avg"),
            [],
            self._states(params, "momentum_buffer") if momentum else [],
            self._states(params, "step", scalar=True),
            foreach=on_device,
            capturable=on_device,
            lr=group["lr"],
            alpha=group["alpha"],
            eps=group["eps"],
            weight_decay=group["weight_decay"],
            momentum=momentum,
            centered=False,
        )
