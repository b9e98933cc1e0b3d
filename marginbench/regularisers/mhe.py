"""Minimum hyperspherical energy."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from marginbench.plugins.parameters import NonNegative
from marginbench.regularisers import register_regulariser
from marginbench.regularisers.base import LayerShape, Regulariser
from marginbench.regularisers.energy import Distance, Power, hyperspherical_energy


@register_regulariser("mhe")
class MinimumHypersphericalEnergy(Regulariser):
    """The directions of a layer's filters repel one another like charges on a sphere.

    Args:
        layers: of the cell.
        weight: λ_h of the hidden layers.
        classifier_weight: λ_o of the class weights; None: the same.
        power: s.
        distance: the chord or the angle (A-MHE).
        half_space: whether a filter repels the others' opposites too.
    """

    formula = "1/(N(N − 1)) · Σ_{i≠j} ‖ŵ_i − ŵ_j‖^(−s);  s = 0: log(1/‖ŵ_i − ŵ_j‖)"
    paper = "Liu et al., Learning towards Minimum Hyperspherical Energy, NeurIPS 2018, Eq. 1 and 8"
    scale_invariant = True

    def __init__(
        self,
        layers: Sequence[LayerShape],
        *,
        weight: NonNegative = 1.0,
        classifier_weight: NonNegative | None = None,
        power: Power = 2,
        distance: Distance = "euclidean",
        half_space: bool = False,
    ) -> None:
        super().__init__(layers, weight=weight, classifier_weight=classifier_weight)
        self.power = power
        self.distance: Distance = distance
        self.half_space = half_space

    def penalty(self, filters: Tensor, layer: int) -> Tensor:
        return hyperspherical_energy(
            filters, power=self.power, distance=self.distance, half_space=self.half_space
        )
