"""Angular visual hardness of images, and how well it ranks those that are misclassified."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from marginbench.heads.geometry import angle, direction, norm_and_direction


class Hardness(NamedTuple):
    """What may tell how hard an image is, each (N,), on one device.

    Attributes:
        hardness: angular visual hardness, in [0, 1]; see :func:`angular_visual_hardness`.
        confidence: softmax(logits) of the image's own class, in [0, 1].
        norm: of its features.
        wrong: whether it is classified as another class.
    """

    hardness: Tensor
    confidence: Tensor
    norm: Tensor
    wrong: Tensor


def angular_visual_hardness(features: Tensor, class_weights: Tensor, labels: Tensor) -> Tensor:
    """AVH = θ(w_y, x) / Σ_i θ(w_i, x), θ the angle between class weight and features.

    The dissertation of Liu, Section 1.1 (Chen et al., Angular Visual Hardness, ICML 2020, Def. 1).
    The larger, the harder: 1/K where every class is as far. Of several centres a class the nearest
    counts. A zero vector has an angle of π/2 to everything.

    Args:
        features: (N, D).
        class_weights: (K, D), or (K, C, D) of C centres a class.
        labels: (N,), in [0, K).

    Returns:
        (N,), float64; 0 where all angles are 0.
    """
    centres = direction(class_weights.double()).flatten(1, -2) if class_weights.ndim > 2 else None
    unit = direction(features.double())
    if centres is not None:
        number, dimension = len(class_weights), class_weights.shape[-1]
        cosine = unit @ centres.view(-1, dimension).T
        cosine = cosine.view(len(unit), number, -1).amax(dim=2)
    else:
        cosine = unit @ direction(class_weights.double()).T
    angles = angle(cosine.clamp(-1, 1))
    own = angles.gather(1, labels[:, None])[:, 0]
    total = angles.sum(dim=1)
    return torch.where(total > 0, own / torch.where(total > 0, total, 1), 0)


def hardness_of(
    features: Tensor, class_weights: Tensor, logits: Tensor, labels: Tensor
) -> Hardness:
    """The hardness of a batch of images.

    Args:
        features: (N, D).
        class_weights: see :func:`angular_visual_hardness`.
        logits: (N, K), margin off.
        labels: (N,).
    """
    confidence = logits.double().softmax(dim=1).gather(1, labels[:, None])[:, 0]
    return Hardness(
        angular_visual_hardness(features, class_weights, labels),
        confidence,
        norm_and_direction(features.double())[0][:, 0],
        logits.argmax(dim=1) != labels,
    )


def summary(found: Hardness) -> dict[str, float]:
    """Numbers of a set of images for a row of the history.

    Returns:
        visual_hardness, the mean; visual_hardness_right and visual_hardness_wrong, of the images
        that are classified right and wrong, where there are any; and, where there are both,
        Spearman's rank correlation with being misclassified: hardness_correlation,
        confidence_correlation and norm_correlation, in [−1, 1]. A measure that is the same of
        every image has none.
    """
    numbers = {"visual_hardness": float(found.hardness.mean())}
    for name, chosen in (("right", ~found.wrong), ("wrong", found.wrong)):
        if chosen.any():
            numbers[f"visual_hardness_{name}"] = float(found.hardness[chosen].mean())
    for name in ("hardness", "confidence", "norm"):
        correlation = rank_correlation(getattr(found, name), found.wrong.double())
        if correlation is not None:
            numbers[f"{name}_correlation"] = correlation
    return numbers


def rank_correlation(one: Tensor, other: Tensor) -> float | None:
    """Spearman's: Pearson's correlation of the ranks, equal values sharing the mean of theirs.

    Args:
        one: (N,), finite.
        other: (N,), finite.

    Returns:
        In [−1, 1]; None where all values of either are equal.
    """
    ranks = [_ranks(values) for values in (one, other)]
    centred = [values - values.mean() for values in ranks]
    lengths = [float(values.norm()) for values in centred]
    if not min(lengths) > 0:
        return None
    return float(centred[0] @ centred[1]) / (lengths[0] * lengths[1])


def _ranks(values: Tensor) -> Tensor:
    _, place, counts = values.unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    return (last - (counts - 1) / 2)[place]
