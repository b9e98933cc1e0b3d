"""Mean and principal components of features, fitted on some of them and applied to all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class FeatureTransform:
    """Features → centred, projected features.

    Attributes:
        mean: (D,), subtracted.
        components: (D, C), orthonormal columns, the largest variance first; None keeps the
            features as they are.
    """

    mean: np.ndarray
    components: np.ndarray | None

    def __call__(self, features: np.ndarray, dimensions: int = 0) -> np.ndarray:
        """Transformed features (M, C), of which the first ``dimensions`` are kept (0: all)."""
        centred = features - self.mean
        if self.components is None:
            return centred
        return centred @ (self.components[:, :dimensions] if dimensions else self.components)


def fit_transform(features: np.ndarray, *, centre: bool, components: bool) -> FeatureTransform:
    """Fit mean and principal components.

    Args:
        features: (M, D), float64.
        centre: whether the mean is subtracted; it is before a projection in any case.
        components: whether all D principal components are computed.
    """
    mean = features.mean(axis=0) if centre or components else np.zeros(features.shape[1])
    if not components:
        return FeatureTransform(mean, None)
    centred = features - mean
    _, vectors = np.linalg.eigh(centred.T @ centred)
    return FeatureTransform(mean, vectors[:, ::-1])


def unit_rows(features: np.ndarray) -> np.ndarray:
    """Each row divided by its length; a zero row stays zero, so its cosine with any is 0."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return np.divide(features, lengths, out=np.zeros_like(features), where=lengths > 0)
