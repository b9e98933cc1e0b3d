"""The gradient that backward gives, against the slope of the loss's own values."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from marginbench.heads import Head
from marginbench.testing.subject import (
    CheckFailure,
    NotApplicable,
    Subject,
    gradients,
)

STEP = 1e-6
TOLERANCE = 1e-5
DIRECTIONS = 12


def gradients_match_finite_differences(subject: Subject) -> str:
    """In float64, along random directions in the features and in each parameter.

    A head that declares ``gradient_leaves_out`` is checked with ``grad="exact"`` where it has
    that choice.
    """
    head = subject.build(dtype=torch.float64)
    note = ""
    if head.gradient_leaves_out and "grad" in subject.resolved():
        head = subject.build(dtype=torch.float64, grad="exact")
        note = ', at grad="exact"'
    if head.gradient_leaves_out:
        raise NotApplicable(
            f"by its own account the gradient leaves out {head.gradient_leaves_out}"
        )
    # Not training: batch statistics stand still, as they do in the gradient.
    head.eval()
    features, labels = subject.batch(dtype=torch.float64)
    _, found = gradients(copy.deepcopy(head), features, labels)
    worst, where = 0.0, ""
    for name, gradient in found.items():
        deviation = _deviation(head, features, labels, name, gradient)
        if not deviation <= worst:
            worst, where = deviation, name
    if not worst <= TOLERANCE:
        raise CheckFailure(
            f"the gradient for {where!r} is off by {worst:.2g} of its size (allowed {TOLERANCE:g})"
        )
    count = DIRECTIONS * len(found)
    return f"largest relative deviation {worst:.1e} along {count} directions{note}"


def _deviation(head: Head, features: Tensor, labels: Tensor, name: str, gradient: Tensor) -> float:
    """The largest deviation along random directions, relative to the gradient's length."""
    generator = torch.Generator().manual_seed(7)
    worst = 0.0
    for _ in range(DIRECTIONS):
        direction = torch.randn(gradient.shape, generator=generator, dtype=torch.float64)
        direction = (direction / direction.norm()).to(gradient.device)
        ahead = _loss_at(head, features, labels, name, STEP * direction)
        behind = _loss_at(head, features, labels, name, -STEP * direction)
        slope = (ahead - behind) / (2 * STEP)
        size = max(float(gradient.norm()), 1e-3)
        deviation = abs(slope - float((gradient * direction).sum())) / size
        worst = deviation if not deviation <= worst else worst
    return worst


@torch.no_grad()
def _loss_at(head: Head, features: Tensor, labels: Tensor, name: str, shift: Tensor) -> float:
    # A copy each time, so that no state of the head moves between two values.
    head = copy.deepcopy(head)
    if name == "features":
        features = features + shift
    else:
        head.get_parameter(name).add_(shift)
    return float(head(features, labels))
