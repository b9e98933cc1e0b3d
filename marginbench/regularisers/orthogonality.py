"""Orthogonality of a layer's filters: in the Frobenius norm, and in the spectral one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from torch import Tensor

from marginbench.plugins.parameters import AddedLater, NonNegative
from marginbench.regularisers import register_regulariser
from marginbench.regularisers.base import LayerShape, Regulariser


@register_regulariser("orthogonality")
class SoftOrthogonality(Regulariser):
    """The filters of a layer are to be orthonormal: their Gram matrix is to be the identity.

    Args:
        layers: of the cell.
        weight: λ of the hidden layers. The sum is over all N² entries, not their mean.
        classifier_weight: λ of the class weights; None: the same.
    """

    formula = "‖WᵀW − I‖²_F, filters as the columns of W"
    paper = "Bansal et al., Can We Gain More from Orthogonality Regularizations, NeurIPS 2018"

    def __init__(
        self,
        layers: Sequence[LayerShape],
        *,
        weight: NonNegative = 1e-3,
        classifier_weight: NonNegative | None = None,
    ) -> None:
        super().__init__(layers, weight=weight, classifier_weight=classifier_weight)

    def penalty(self, filters: Tensor, layer: int) -> Tensor:
        count, dimension = filters.shape
        # Both Gram matrices have the same eigenvalues, but for |N − D| zeros, which are off by 1.
        gram = filters @ filters.T if count <= dimension else filters.T @ filters
        off = gram - torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        return off.square().sum() + max(count - dimension, 0)


@register_regulariser("srip")
class SpectralOrthogonality(Regulariser):
    """The spectral restricted isometry property: the largest |eigenvalue| of WᵀW − I is penalised.

    It is found by power iteration, one more each training step, from a random vector that is kept.
    The authors' code adds the square of the norm, and iterates twice from a new random vector at
    each step, through which it takes the gradient too.

    Args:
        layers: of the cell.
        weight: λ of the hidden layers.
        classifier_weight: λ of the class weights; None: the same.
        gram: "smaller": of N filters of D numbers, WᵀW if N ≤ D and else WWᵀ, as in the authors'
            code. "filters": always WᵀW, N × N. If N > D, N − D of its eigenvalues are 0 whatever
            the filters are, so that the norm is 1 and has no gradient while all others are below 2.
    """

    formula = "σ(WᵀW − I), the spectral norm, filters as the columns of W; σ(WWᵀ − I) if N > D"
    paper = "Bansal et al., Can We Gain More from Orthogonality Regularizations, NeurIPS 2018"

    def __init__(
        self,
        layers: Sequence[LayerShape],
        *,
        weight: NonNegative = 0.1,
        classifier_weight: NonNegative | None = None,
        gram: Annotated[Literal["smaller", "filters"], AddedLater("filters")] = "smaller",
    ) -> None:
        super().__init__(layers, weight=weight, classifier_weight=classifier_weight)
        self.gram = gram
        for number, layer in enumerate(layers):
            smaller = min(layer.filters, layer.dimension)
            start = torch.randn(smaller if gram == "smaller" else layer.filters)
            self.register_buffer(f"vector_{number}", start / start.norm())

    def penalty(self, filters: Tensor, layer: int) -> Tensor:
        vector = self.get_buffer(f"vector_{layer}")
        return torch.linalg.vector_norm(self._deviation(filters, vector))

    def renew(self, filters: Sequence[Tensor], iteration: int) -> None:
        for layer, one in enumerate(filters):
            vector = self.get_buffer(f"vector_{layer}")
            found = self._deviation(one, vector)
            length = torch.linalg.vector_norm(found)
            # Of filters that are orthonormal already nothing is left to follow.
            vector.copy_(torch.where(length > 0, found / length.clamp_min(1e-30), vector))

    def _deviation(self, filters: Tensor, vector: Tensor) -> Tensor:
        """(WᵀW − I)v, or (WWᵀ − I)v, without the matrix: of the vector's length."""
        if self.gram == "smaller" and len(filters) > filters.shape[1]:
            filters = filters.T
        return filters @ (filters.T @ vector) - vector
