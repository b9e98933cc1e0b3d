"""A cell's regulariser on the weights of its model: what is added to the loss of each step."""

from __future__ import annotations

import torch
from torch import Tensor

from marginbench.backbones import Backbone
from marginbench.errors import UserError
from marginbench.experiments.cells import Cell
from marginbench.heads import Head
from marginbench.regularisers import Regulariser, build_regulariser
from marginbench.regularisers.layers import WeightLayer, weight_layers
from marginbench.training.seeds import seeded


class Regularisation:
    """A regulariser, the layers that it acts on, and its own randomness.

    Args:
        regulariser: on the model's device.
        layers: in the order that the regulariser was built for.
        seed: of the cell.

    Attributes:
        regulariser: as given.
    """

    def __init__(self, regulariser: Regulariser, layers: list[WeightLayer], seed: int) -> None:
        self.regulariser = regulariser
        self._layers = layers
        self._seed = seed
        self._renews = type(regulariser).renew is not Regulariser.renew

    @property
    def of_classifier(self) -> bool:
        """Whether the class weights are regularised."""
        shapes = self.regulariser.layers
        return any(
            one.is_classifier and self.regulariser.share(i) > 0 for i, one in enumerate(shapes)
        )

    def renew(self, iteration: int) -> None:
        """Bring the regulariser's buffers to a step; to be called before it, outside a CUDA graph.

        Args:
            iteration: of the step, from 0; random numbers are a function of it and the cell's seed.
        """
        if self._renews:
            with torch.no_grad(), seeded(self._seed, f"regulariser/{iteration}"):
                self.regulariser.renew(self._filters(), iteration)

    def value(self) -> Tensor:
        """What is added to the loss: a scalar through which gradients reach the weights."""
        return self.regulariser(self._filters())

    @torch.no_grad()
    def value_now(self) -> float:
        """The same as a number, for the history."""
        return float(self.value())

    def _filters(self) -> list[Tensor]:
        return [layer.filters for layer in self._layers]


def build_regularisation(
    cell: Cell, backbone: Backbone, head: Head, device: torch.device
) -> Regularisation | None:
    """The regularisation of a cell, initialised from a seed of its own; None without any.

    Raises:
        UserError: an unknown regulariser or parameter, a value that is not allowed, a model that
            has no layer to regularise, or a loss over sampled classes whose class weights would be
            regularised.
    """
    if cell.regulariser is None:
        return None
    layers = weight_layers(backbone, head)
    name, parameters = cell.regulariser.name, cell.regulariser.parameters
    if not layers:
        raise UserError(
            f"cell: regulariser {name!r} has nothing to act on: the backbone has no convolution "
            "and no linear layer, and the head no class weights"
        )
    with torch.no_grad(), seeded(cell.seed, "regulariser"):
        regulariser = build_regulariser(name, [one.shape for one in layers], **parameters)
    found = Regularisation(regulariser.to(device), layers, cell.seed)
    share = head.many_classes.sampled_classes
    if share < 1 and found.of_classifier:
        raise UserError(
            f"cell: regulariser {name!r} acts on all class weights, and sampled_classes = "
            f"{share:g} updates some; allowed: classifier_weight = 0, or sampled_classes = 1"
        )
    return found
