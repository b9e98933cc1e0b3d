"""Stochastic gradient descent with momentum, ready without torch's compiler."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.sgd import sgd


class MomentumSGD:
    """What ``torch.optim.SGD(..., momentum=momentum, fused=True)`` computes, to the bit.

    A sparse gradient, that of a sample of classes, moves the rows that it has and no others.

    torch's optimiser classes import ``torch._dynamo`` when one is made: two seconds for every
    process that trains. The function behind them does not.

    Args:
        groups: each with "params" and its "weight_decay".
        learning_rate: at the start; a step reads "lr" of each group, a number or a tensor.
        momentum: in [0, 1).

    Attributes:
        param_groups, state: as torch's optimisers have them.
    """

    def __init__(
        self, groups: Iterable[dict[str, Any]], *, learning_rate: float, momentum: float
    ) -> None:
        common = {"lr": learning_rate, "momentum": momentum}
        self.param_groups: list[dict[str, Any]] = [{**common, **group} for group in groups]
        self.state: dict[Tensor, dict[str, Tensor | None]] = {}

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """One step, with the gradients that there are."""
        for group in self.param_groups:
            given = [parameter for parameter in group["params"] if parameter.grad is not None]
            for parameter in given:
                if parameter.grad.is_sparse:
                    self._step_rows(parameter, parameter.grad, group)
            params = [parameter for parameter in given if not parameter.grad.is_sparse]
            buffers = [self.state.get(p, {}).get("momentum_buffer") for p in params]
            sgd(
                params,
                [parameter.grad for parameter in params],
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

    def state_dict(self) -> dict[str, Any]:
        """The state in the form of torch's optimisers: parameters by their number."""
        numbers = self._numbers()
        return {
            "state": {numbers[parameter]: dict(state) for parameter, state in self.state.items()},
            "param_groups": [
                {**group, "params": [numbers[parameter] for parameter in group["params"]]}
                for group in self.param_groups
            ],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the momentum of :meth:`state_dict`, on each parameter's device."""
        self.state = {
            parameter: {
                name: None if buffer is None else buffer.to(parameter.device, copy=True)
                for name, buffer in state["state"][number].items()
            }
            for parameter, number in self._numbers().items()
            if number in state["state"]
        }

    def _numbers(self) -> dict[Tensor, int]:
        parameters = [p for group in self.param_groups for p in group["params"]]
        return {parameter: number for number, parameter in enumerate(parameters)}
