"""How compact the classes are among the test features, and how far apart: angles and norms."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from marginbench.heads.geometry import norm_and_direction

ROWS = 1024


def feature_geometry(features: Tensor, labels: Tensor, num_classes: int) -> dict[str, float | None]:
    """Compactness and separation, in the angles that margin losses work on.

    A class's centre is the mean of its features' directions. A zero feature has no direction, and
    counts in the norms only.

    Args:
        features: (N, D), N ≥ 1.
        labels: (N,), in [0, K).
        num_classes: K.

    Returns:
        - angle_to_centre: mean angle of a feature to its own class's centre, in degrees.
        - angle_between_centres: mean angle between the centres of two classes, in degrees.
        - angle_to_nearest_centre: mean over classes of the angle to the nearest other centre.
        - compactness_ratio: the first by the second; the smaller, the better told apart.
        - feature_norm, feature_norm_deviation: mean and standard deviation of the lengths.

        None where there is nothing to measure: a single class with features, or centres at 0.
    """
    norms, unit = norm_and_direction(features.double())
    norms = norms[:, 0]
    has_direction = norms > 0
    sums = unit.new_zeros(num_classes, unit.shape[1]).index_add_(0, labels, unit)
    lengths, centres = norm_and_direction(sums)
    usable = lengths[:, 0] > 1e-9
    counted = has_direction & usable[labels]
    to_centre = _degrees((unit * centres[labels]).sum(dim=1))[counted]
    within = float(to_centre.mean()) if len(to_centre) else None
    between, nearest = _between(centres[usable])
    return {
        "angle_to_centre": within,
        "angle_between_centres": between,
        "angle_to_nearest_centre": nearest,
        "compactness_ratio": within / between if within is not None and between else None,
        "feature_norm": float(norms.mean()),
        "feature_norm_deviation": float(norms.std()) if len(norms) > 1 else None,
    }


def _between(centres: Tensor) -> tuple[float | None, float | None]:
    """Mean angle of all pairs of centres (K, D), and of each centre to its nearest other one."""
    count = len(centres)
    if count < 2:
        return None, None
    total, nearest = 0.0, 0.0
    for start in range(0, count, ROWS):
        part = _degrees(centres[start : start + ROWS] @ centres.T)
        own = torch.arange(len(part), device=part.device)
        part[own, own + start] = 0
        total += float(part.sum())
        part[own, own + start] = math.inf
        nearest += float(part.min(dim=1).values.sum())
    return total / (count * (count - 1)), nearest / count


def _degrees(cosine: Tensor) -> Tensor:
    return torch.rad2deg(torch.arccos(cosine.clamp(-1, 1)))
