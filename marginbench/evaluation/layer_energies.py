"""The hyperspherical energy of every layer of a model."""

from __future__ import annotations

import torch
from torch import nn

from marginbench.heads import Head
from marginbench.regularisers.energy import hyperspherical_energy
from marginbench.regularisers.layers import weight_layers

MOST_FILTERS = 4096
"""A layer with more is left out: of 100,000 classes there are ten thousand million pairs."""
ENERGY = "energy/"
"""How the names in the history begin; the layer's name follows."""


@torch.no_grad()
def layer_energies(backbone: nn.Module, head: Head) -> dict[str, float]:
    """The mean of ‖ŵ_i − ŵ_j‖^(−2) over the pairs of a layer's filters: "energy/LAYER" → number.

    Filters orthogonal to one another have 1/2, opposite ones 1/4, the least that two can have. A
    layer of one filter has no pair and is left out, as is one of more than :data:`MOST_FILTERS`.

    Args:
        backbone: see :func:`marginbench.regularisers.layers.weight_layers`.
        head: likewise.
    """
    return {
        # In float32 two filters that are close together cost it the fourth digit.
        ENERGY + layer.name: float(hyperspherical_energy(layer.filters.double()))
        for layer in weight_layers(backbone, head)
        if 2 <= layer.shape.filters <= MOST_FILTERS
    }
