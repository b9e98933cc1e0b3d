"""A regulariser to be checked, the layers it is checked on, and their filters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from marginbench.plugins.parameters import parameter_model
from marginbench.regularisers import (
    LayerShape,
    Regulariser,
    build_regulariser,
    regulariser_class,
    resolve_regulariser_parameters,
)
from marginbench.testing.observation import same_randomness
from marginbench.testing.subject import offered_choices

LAYERS = (
    LayerShape("wide", 6, 12),
    LayerShape("tall", 9, 5),
    LayerShape("classifier", 4, 7, is_classifier=True),
)
"""With fewer filters than dimensions, with more, and class weights."""


@dataclass(frozen=True)
class RegulariserSubject:
    """A registered regulariser with chosen parameters.

    Attributes:
        name: its registered name.
        parameters: those that differ from the defaults.
        device: where the checks run.
        mode: in words, the choice in which it departs from the one that was asked for.
    """

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    device: str = "cpu"
    mode: str = ""
    sizes: ClassVar[str] = ""

    def build(
        self,
        dtype: torch.dtype = torch.float32,
        changes: Mapping[str, Any] | None = None,
        layers: Sequence[LayerShape] = LAYERS,
    ) -> Regulariser:
        """The regulariser, the same from call to call.

        Args:
            dtype: of its buffers.
            changes: parameters in the place of the subject's.
            layers: that it is built for.
        """
        with same_randomness(), torch.no_grad():
            made = build_regulariser(self.name, layers, **{**self.parameters, **(changes or {})})
        return made.to(device=self.device, dtype=dtype)

    def filters(
        self, dtype: torch.dtype = torch.float32, layers: Sequence[LayerShape] = LAYERS
    ) -> list[Tensor]:
        """Random filters (N, D) of each layer, of lengths from 0.5 to 2; leaves with gradients."""
        generator = torch.Generator().manual_seed(11)
        made = []
        for layer in layers:
            rows = torch.randn(
                layer.filters, layer.dimension, generator=generator, dtype=torch.float64
            )
            lengths = torch.linspace(0.5, 2, layer.filters, dtype=torch.float64)[:, None]
            rows = lengths * rows / rows.norm(dim=1, keepdim=True)
            made.append(rows.to(device=self.device, dtype=dtype).requires_grad_())
        return made

    def modes(self) -> list[RegulariserSubject]:
        """The subject itself, and the same with every other value of a ``Literal`` or ``bool``."""
        resolved = resolve_regulariser_parameters(self.name, dict(self.parameters))
        model = parameter_model(f"regulariser {self.name!r}", regulariser_class(self.name))
        changes = [
            {name: choice}
            for name, parameter in model.model_fields.items()
            for choice in offered_choices(parameter.annotation)
            if choice != resolved[name]
        ]
        others = [
            RegulariserSubject(
                self.name,
                {**self.parameters, **change},
                self.device,
                ", ".join(f"{name}={value!r}" for name, value in change.items()),
            )
            for change in changes
        ]
        return [self, *others]


def value_and_gradients(
    regulariser: Regulariser, filters: Sequence[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """The value, and the gradient of each layer's filters; zeros where none reaches them."""
    value = regulariser(filters)
    if not value.requires_grad:
        return value, [torch.zeros_like(one) for one in filters]
    found = torch.autograd.grad(value, filters, allow_unused=True)
    return value.detach(), [
        torch.zeros_like(one) if gradient is None else gradient
        for one, gradient in zip(filters, found, strict=True)
    ]
