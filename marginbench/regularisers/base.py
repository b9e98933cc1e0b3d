"""What a regulariser is: the filters of the layers → a penalty that is added to the loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from marginbench.plugins.parameters import NonNegative


class LayerShape(NamedTuple):
    """A layer as a regulariser knows it when it is built.

    Attributes:
        name: of the layer in its network ("convolutions.3"); "classifier" for the class weights.
        filters: N, how many neurons it has: channels of a convolution's output, units of a linear
            layer, classes of a classifier.
        dimension: D, the length of a filter laid flat.
        is_classifier: whether these are the head's class weights.
    """

    name: str
    filters: int
    dimension: int
    is_classifier: bool = False


class Regulariser(nn.Module, ABC):
    """The filters of every layer → a number that training makes small beside the loss.

    A subclass defines :meth:`penalty` of one layer. Its parameters are the keyword-only arguments
    of its ``__init__``, annotated; without an ``__init__`` of its own it has ``weight`` and
    ``classifier_weight``. It reads the weights and nothing else: neither images nor labels. What it
    keeps from step to step lies in buffers, changed in place by :meth:`renew`, so that a checkpoint
    carries it.

    Args:
        layers: those of the cell, in the order of the network, the classifier last.
        weight: λ of the hidden layers.
        classifier_weight: λ of the class weights; None: that of the hidden layers; 0: they are
            left alone.

    Attributes:
        layers: as given.
        weight, classifier_weight: as given, None replaced.
    """

    formula: ClassVar[str] = ""
    """The penalty of a layer, in one line."""
    paper: ClassVar[str] = ""
    """Where it comes from: authors, title, venue, equation."""
    scale_invariant: ClassVar[bool] = False
    """Whether only the filters' directions count: any filter may be multiplied by a positive
    number, and the penalty stays."""

    def __init__(
        self,
        layers: Sequence[LayerShape],
        *,
        weight: NonNegative = 1.0,
        classifier_weight: NonNegative | None = None,
    ) -> None:
        super().__init__()
        self.layers = tuple(layers)
        self.weight = weight
        self.classifier_weight = weight if classifier_weight is None else classifier_weight

    @abstractmethod
    def penalty(self, filters: Tensor, layer: int) -> Tensor:
        """The penalty of one layer, without its λ.

        Args:
            filters: (N, D), a filter a row.
            layer: its position in :attr:`layers`.

        Returns:
            A scalar. It is finite, and its gradient is, for one filter, for equal ones and for
            zeros too.
        """

    def renew(self, filters: Sequence[Tensor], iteration: int) -> None:
        """Bring what is kept in buffers to a step; called before each, without gradients.

        Random numbers come from torch's global generator of the CPU, which stands at a seed of the
        cell's and the iteration's own.

        Args:
            filters: (N, D) of each layer, as they are before the step.
            iteration: of the step, from 0.
        """

    def share(self, layer: int) -> float:
        """λ of a layer, by its position."""
        return self.classifier_weight if self.layers[layer].is_classifier else self.weight

    def forward(self, filters: Sequence[Tensor]) -> Tensor:
        """Σ over the layers of λ · penalty.

        Args:
            filters: (N, D) of each layer, in the order of :attr:`layers`.

        Returns:
            A scalar; 0 where no layer has a λ.
        """
        shares = [self.share(layer) for layer in range(len(self.layers))]
        parts = [
            share * self.penalty(one, layer)
            for layer, (share, one) in enumerate(zip(shares, filters, strict=True))
            if share > 0
        ]
        return torch.stack(parts).sum() if parts else filters[0].new_zeros(())
