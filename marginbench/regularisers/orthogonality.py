"""Orthogonality of a layer's filters: in the Frobenius norm, and in the spectral one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from marginbench.plugins.parameters import NonNegative
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

    Args:
        layers: of the cell.
        weight: λ of the hidden layers.
        classifier_weight: λ of the class weights; None: the same.
    """

    formula = "σ(WᵀW − I), the spectral norm, filters as the columns of W"
    paper = "Bansal et al., Can We Gain More from Orthogonality Regularizations, NeurIPS 2018"

    def __init__(
        self,
        layers: Sequence[LayerShape],
        *,
        weight: NonNegative = 0.1,
        classifier_weight: NonNegative | None = None,
    ) -> None:
        super().__init__(layers, weight=weight, classifier_weight=classifier_weight)
        for number, layer in enumerate(layers):
            start = torch.randn(layer.filters)
            self.register_buffer(f"vector_{number}", start / start.norm())

    def penalty(self, filters: Tensor, layer: int) -> Tensor:
        vector = self.get_buffer(f"vector_{layer}")
        return torch.linalg.vector_norm(_deviation(filters, vector))

    def renew(self, filters: Sequence[Tensor], iteration: int) -> None:
        for layer, one in enumerate(filters):
            vector = self.get_buffer(f"vector_{layer}")
            found = _deviation(one, vector)
            length = torch.linalg.vector_norm(found)
            # Of filters that are orthonormal already nothing is left to follow.
            vector.copy_(torch.where(length > 0, found / length.clamp_min(1e-30), vector))


def _deviation(filters: Tensor, vector: Tensor) -> Tensor:
    """(WᵀW − I)v, without the matrix: (N, D) and (N,) → (N,)."""
    return filters @ (filters.T @ vector) - vector
