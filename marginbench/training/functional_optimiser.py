"""What the optimisers share: groups, clipping, and a state that a checkpoint carries."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor


class FunctionalOptimiser(ABC):
    """An optimiser of torch by the function behind its class.

    torch's optimiser classes import ``torch._dynamo`` when one is made: two seconds for every
    process that trains. The functions behind them do not. A step waits for no device, so that it
    can be captured as a CUDA graph.

    Args:
        groups: each with "params" and its "weight_decay".
        settings: entries of every group, "lr" among them; a step reads "lr" of each group, a
            number or a tensor of no dimension.
        clip_norm: before a step the gradients of all parameters are scaled to this norm where
            theirs together is larger (Pascanu et al., ICML 2013); 0 for never.

    Attributes:
        param_groups, state: as torch's optimisers have them.
    """

    state_names: ClassVar[frozenset[str]]
    """The entries of a parameter's state."""

    def __init__(
        self, groups: Iterable[dict[str, Any]], settings: dict[str, Any], clip_norm: float = 0.0
    ) -> None:
        self.param_groups: list[dict[str, Any]] = [{**settings, **group} for group in groups]
        self.state: dict[Tensor, dict[str, Tensor | None]] = {}
        self.clip_norm = clip_norm

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """One step, with the gradients that there are."""
        if self.clip_norm:
            torch.nn.utils.clip_grad_norm_(
                [p for group in self.param_groups for p in group["params"]], self.clip_norm
            )
        for group in self.param_groups:
            reached = [(p, p.grad) for p in group["params"] if p.grad is not None]
            self._step(group, [p for p, _ in reached], [gradient for _, gradient in reached])

    @abstractmethod
    def _step(self, group: dict[str, Any], params: list[Tensor], gradients: list[Tensor]) -> None:
        """One step of the parameters of a group that have a gradient."""

    def _states(self, params: list[Tensor], name: str, *, scalar: bool = False) -> list[Any]:
        """The entry of that name of each parameter, begun with zeros where there is none."""
        for parameter in params:
            entries = self.state.setdefault(parameter, {})
            if name not in entries:
                device = parameter.device
                entries[name] = (
                    torch.zeros((), dtype=torch.float32, device=device)
                    if scalar
                    else torch.zeros_like(parameter, memory_format=torch.preserve_format)
                )
        return [self.state[parameter][name] for parameter in params]

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
        """Take over the state of :meth:`state_dict`, on each parameter's device."""
        self.state = {
            parameter: {
                name: None if value is None else value.to(parameter.device, copy=True)
                for name, value in state["state"][number].items()
            }
            for parameter, number in self._numbers().items()
            if number in state["state"]
        }

    def _numbers(self) -> dict[Tensor, int]:
        parameters = [p for group in self.param_groups for p in group["params"]]
        return {parameter: number for number, parameter in enumerate(parameters)}
