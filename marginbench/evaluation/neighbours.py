"""The images nearest to a few queries, kept small, for a picture in the report."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from marginbench.evaluation.feature_transform import unit_rows

QUERIES = 6
NEIGHBOURS = 6
LARGEST_SIDE = 48
"""Pixels that a kept image has at most a side."""


def neighbours(features: np.ndarray, classes: Tensor, images: Tensor) -> dict[str, np.ndarray]:
    """The nearest images of a few queries by the cosine, the query itself left out.

    The queries are drawn by a fixed seed, of different classes as far as there are: they depend on
    the classes alone, so that every head and every seed is shown by the same ones. As in
    :func:`marginbench.evaluation.retrieval.retrieval`, images that are alone in their class are no
    queries, and of equal similarities those of another class come first.

    Args:
        features: (M, D), of any length.
        classes: (M,), integers.
        images: (M, C, H, W), uint8.

    Returns:
        For Q queries and K neighbours: ``images`` (Q, 1 + K, C, h, w), uint8, the query first, at
        most :data:`LARGEST_SIDE` pixels a side; ``cosine`` (Q, K), float32, falling; ``right``
        (Q, K), bool, whether it is of the query's class; ``indices`` (Q, 1 + K), of the images.
        Empty where no class has two images.
    """
    queries = _queries(classes)
    if not len(queries):
        return {}
    unit = torch.from_numpy(unit_rows(np.asarray(features, dtype=np.float64))).float()
    same = classes[queries, None] == classes[None, :]
    cosine = unit[queries] @ unit.T
    ranked = torch.where(same, cosine.nextafter(torch.tensor(-torch.inf)), cosine)
    ranked[torch.arange(len(queries)), queries] = -torch.inf
    nearest = ranked.topk(min(NEIGHBOURS, len(classes) - 1), dim=1).indices
    indices = torch.cat([queries[:, None], nearest], dim=1)
    return {
        "images": _small(images[indices.flatten()]).unflatten(0, indices.shape).numpy(),
        "cosine": cosine.gather(1, nearest).numpy(),
        "right": same.gather(1, nearest).numpy(),
        "indices": indices.numpy(),
    }


def _queries(classes: Tensor) -> Tensor:
    """Indices of up to :data:`QUERIES` images of classes with two or more."""
    random = np.random.default_rng(0)
    names, counts = np.unique(classes.numpy(), return_counts=True)
    chosen = random.permutation(names[counts > 1])[:QUERIES]
    of_class = [np.flatnonzero(classes.numpy() == name) for name in chosen]
    return torch.tensor([int(random.choice(members)) for members in of_class], dtype=torch.int64)


def _small(images: Tensor) -> Tensor:
    height, width = images.shape[2:]
    factor = min(1.0, LARGEST_SIDE / max(height, width))
    if factor == 1:
        return images
    size = (max(1, round(factor * height)), max(1, round(factor * width)))
    return F.interpolate(images.float(), size, mode="area").round().to(torch.uint8)
