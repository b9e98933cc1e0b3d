"""Retrieval: which images are nearest to an image, and are they of its class?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

RECALL_AT = (1, 2, 4, 8)
"""K of Recall@K, as in the tables of Song et al., CVPR 2016, and after."""

_BLOCK_VALUES = 2**24
"""So many similarities are held at a time, 64 MiB, whatever the number of images."""


@dataclass(frozen=True)
class Retrieval:
    """Means over the queries, in [0, 1]; Musgrave et al., ECCV 2020, Section 3.

    R of a query is the number of other images of its class.

    Attributes:
        precision_at_1: the share of queries whose nearest image is of their class.
        r_precision: the share of their class among the R nearest.
        map_at_r: mean average precision at R: 1/R · Σ over the ranks i ≤ R that hold an image of
            the class, of the precision among the i nearest.
        recall_at: (K, Recall@K): the share of queries with an image of their class among the K
            nearest (Song et al., CVPR 2016).
        queries: images of classes with two or more.
        images: among which the nearest are looked for, the query itself left out.
        classes: of the images.
    """

    precision_at_1: float
    r_precision: float
    map_at_r: float
    recall_at: tuple[tuple[int, float], ...]
    queries: int
    images: int
    classes: int


@torch.no_grad()
def retrieval(features: Tensor, classes: Tensor) -> Retrieval | None:
    """Every image is a query once, all others are what is retrieved, by the cosine.

    Exact: all similarities are computed, in float32 and in blocks, and sorted as far as the largest
    R. Of equal similarities those of another class come first, so that features that have collapsed
    retrieve nothing. Images that are alone in their class are retrieved, but are no queries.

    Args:
        features: (M, D), of length 1 or 0, on any device.
        classes: (M,), integers.

    Returns:
        None where no class has two images.
    """
    features, classes = features.float(), classes.to(features.device)
    names, count = torch.unique(classes, return_counts=True)
    # Class by class, so that the images of a query's class are those from a first to a last one.
    features = features[torch.argsort(classes)]
    first = (count.cumsum(0) - count).repeat_interleave(count)
    relevant = count.repeat_interleave(count) - 1
    queries = torch.nonzero(relevant > 0).flatten()
    if not len(queries):
        return None
    images = len(features)
    depth = min(max(int(relevant.max()), RECALL_AT[-1]), images - 1)
    sums = torch.zeros(2 + len(RECALL_AT), dtype=torch.float64, device=features.device)
    for part in queries.split(max(1, _BLOCK_VALUES // images)):
        hits = _hits(features, part, first[part], relevant[part] + 1, depth)
        sums += _summed_scores(hits, relevant[part])
    r_precision, map_at_r, *recall = (sums / len(queries)).tolist()
    return Retrieval(
        precision_at_1=recall[0],
        r_precision=r_precision,
        map_at_r=map_at_r,
        recall_at=tuple(zip(RECALL_AT, recall, strict=True)),
        queries=len(queries),
        images=images,
        classes=len(names),
    )


def _hits(features: Tensor, queries: Tensor, first: Tensor, count: Tensor, depth: int) -> Tensor:
    """(B, depth), bool: whether the image at that rank is of the query's class.

    Args:
        features: (M, D), class by class.
        queries: (B,), which of them.
        first: (B,), the first image of the query's class.
        count: (B,), how many there are.
        depth: ranks.
    """
    similar = features[queries] @ features.T
    query = torch.arange(len(queries), device=queries.device)
    row = query.repeat_interleave(count)
    column = torch.arange(len(row), device=row.device) + (first - count.cumsum(0) + count)[row]
    # One step down, far less than the rounding of a sum: only equal similarities change places.
    similar[row, column] = similar[row, column].nextafter(similar.new_tensor(-torch.inf))
    similar[query, queries] = -torch.inf
    nearest = similar.topk(depth, dim=1).indices
    return (nearest >= first[:, None]) & (nearest < (first + count)[:, None])


def _summed_scores(hits: Tensor, relevant: Tensor) -> Tensor:
    """R-precision, MAP@R and Recall@K of the queries, summed: (2 + K,), float64.

    Args:
        hits: (B, depth), bool, nearest first.
        relevant: (B,), R.
    """
    rank = torch.arange(1, hits.shape[1] + 1, device=hits.device)
    counted = hits & (rank <= relevant[:, None])
    precision = counted.cumsum(dim=1).double() / rank
    found = counted.sum(dim=1) / relevant.double()
    average = torch.where(counted, precision, 0).sum(dim=1) / relevant
    recall = [hits[:, :k].any(dim=1).double().sum() for k in RECALL_AT]
    return torch.stack([found.sum(), average.sum(), *recall])
