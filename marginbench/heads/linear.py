"""The cross-entropy of a linear classifier, which the heads outside the cosine family share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from marginbench.heads.base import Head, replace_target
from marginbench.heads.chunked import chunked_cross_entropy
from marginbench.heads.class_logits import LinearLogits
from marginbench.heads.geometry import norm_and_direction
from marginbench.heads.many_classes import take_classes

Margin = Callable[[Tensor, Tensor, Tensor], Tensor]
"""The target's logit (N, 1) from what it is without margin, from ‖w_y‖‖x‖ and from cos θ."""


def linear_cross_entropy(
    head: Head,
    weight: Tensor,
    features: Tensor,
    labels: Tensor,
    *,
    bias: Tensor | None = None,
    margin: Margin | None = None,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of z_j = w_j·x + b_j, its classes taken as ``head.many_classes`` says.

    Args:
        head: says how its classes are taken.
        weight: (K, D).
        features: (N, D).
        labels: (N,).
        bias: (K,).
        margin: of the target's logit; not together with a bias.
        class_weights: a_j (K,): the loss of each sample counts so often. The mean is over the
            samples all the same.
    """
    taken = take_classes(
        head.many_classes, weight, labels, head.num_classes, training=head.training
    )
    if taken is None:
        logits = F.linear(features, weight, bias)
        if margin is not None:
            feature_norm, feature_direction = norm_and_direction(features)
            weight_norm, weight_direction = norm_and_direction(weight[labels])
            cosine = (feature_direction * weight_direction).sum(dim=1, keepdim=True)
            plain = logits.gather(1, labels[:, None])
            target = margin(plain, weight_norm * feature_norm, cosine)
            logits = replace_target(logits, labels, target)
        if class_weights is None:
            return F.cross_entropy(logits, labels)
        return (class_weights[labels] * F.cross_entropy(logits, labels, reduction="none")).mean()
    plain = (taken.spread(features) * taken.rows).sum(dim=1, keepdim=True)
    if margin is None:
        target = taken.total(plain)
    else:
        feature_norm, feature_direction = norm_and_direction(features)
        weight_norm, weight_direction = norm_and_direction(taken.rows)
        cosine = (taken.spread(feature_direction) * weight_direction).sum(dim=1, keepdim=True)
        # ‖w‖‖x‖cos θ has the same value as the product, but no gradient at zero features.
        own = taken.total(torch.cat([plain, cosine, weight_norm], dim=1))
        plain, cosine, weight_norm = own.split(1, dim=1)
        target = margin(plain, weight_norm * feature_norm, cosine)
    target = target[:, 0]
    if bias is not None:
        target = target + bias[labels]
    first = 0 if taken.shard is None else taken.shard.first
    return chunked_cross_entropy(
        lambda inputs: LinearLogits(inputs, normalised=False, first=first),
        [taken.weight, features] + ([] if bias is None else [taken.of_all(bias)]),
        taken.labels,
        target,
        chunk=taken.chunk,
        keep=taken.keep,
        sample_weights=None if class_weights is None else class_weights[labels] / len(labels),
        shard=taken.shard,
    )
