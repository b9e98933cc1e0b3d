"""Which weights are regularised: a rule, so that it holds for any backbone and any head."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from marginbench.heads.base import Head
from marginbench.regularisers.base import LayerShape

CLASSIFIER = "classifier"
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class WeightLayer:
    """A layer of a model whose weights are filters.

    Attributes:
        name: see :class:`marginbench.regularisers.base.LayerShape`.
        module: a convolution, a linear layer or the head.
    """

    name: str
    module: nn.Module

    @property
    def filters(self) -> Tensor:
        """Its weights now, (N, D), a filter a row; gradients flow to them.

        Of a head with several centres a class, each centre is a filter.
        """
        if isinstance(self.module, Head):
            weights = self.module.classifier_weights()
            assert weights is not None
            return weights.reshape(-1, weights.shape[-1])
        weight: Tensor = self.module.weight  # type: ignore[assignment]
        return weight.flatten(1)

    @property
    def shape(self) -> LayerShape:
        """What a regulariser is built for."""
        filters, dimension = self.filters.shape
        return LayerShape(self.name, filters, dimension, is_classifier=self.name == CLASSIFIER)


def weight_layers(backbone: nn.Module, head: Head) -> list[WeightLayer]:
    """Every convolution and linear layer of a backbone, and the class weights of a head.

    The rule goes by the kind of layer, not by its name; the class weights are those that the head
    declares (``classifier_weights()``). Biases, normalisation and activation have no filters. A
    module that stands in several places counts once.

    Args:
        backbone: see above.
        head: see above.

    Returns:
        The layers in the order in which the backbone names them, the classifier last.
    """
    found = [
        WeightLayer(name, module)
        for name, module in backbone.named_modules()
        if isinstance(module, _LAYERS)
    ]
    if head.classifier_weights() is not None:
        found.append(WeightLayer(CLASSIFIER, head))
    return found
