"""Inputs at which margin losses break: borders of the angle, zero vectors, extreme norms."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from marginbench.errors import UserError
from marginbench.heads import Head
from marginbench.testing.check_in_modes import CheckFailure
from marginbench.testing.observation import classifier_of, gradients
from marginbench.testing.subject import Subject

LARGEST_M = 8
NORMS = {
    torch.float32: (1e-6, 1.0, 1e6),
    torch.bfloat16: (1e-6, 1.0, 1e6),
    # float16 ends at 65,504, and an entry must not reach that.
    torch.float16: (1e-6, 1.0, 3e4),
}


@dataclass
class Edge:
    """A head in some state, and a batch for it."""

    name: str
    head: Head
    features: Tensor
    labels: Tensor


def border_angles() -> dict[str, float]:
    """0, π and every kπ/m up to m = 8, by name."""
    angles = {"0": 0.0, "π": math.pi}
    for m in range(2, LARGEST_M + 1):
        for k in range(1, m):
            if math.gcd(k, m) == 1:
                angles[f"{'' if k == 1 else k}π/{m}"] = k * math.pi / m
    return angles


def finite_at_edges(subject: Subject) -> str:
    """Loss, gradients and test logits are finite at every edge, with float32, bf16, fp16 features.

    The head itself stays in float32, as in training.
    """
    count, broken = 0, []
    # The precision of the features is the same matter in every mode.
    for dtype in [torch.float32] if subject.mode else NORMS:
        for edge in edges(subject, dtype):
            count += len(edge.labels)
            problem = _problem(edge)
            if problem:
                broken.append(f"{problem} at {_narrowed(edge)} ({_name(dtype)})")
    if broken:
        more = f", and at {len(broken) - 1} more edges" if len(broken) > 1 else ""
        raise CheckFailure(broken[0] + more)
    return f"{count} samples: θ = 0, kπ/m, π; zero vectors; norms 1e-6 to 1e6; all finite"


def edges(subject: Subject, dtype: torch.dtype) -> Iterator[Edge]:
    """All edges for features of one precision."""
    if classifier_of(subject.build()) is not None:
        for norm in NORMS[dtype]:
            for axes in (True, False):
                yield _angles(subject, norm, axes, dtype)
    features, labels = subject.batch(dtype=dtype)
    some = features.clone()
    some[0] = 0
    yield Edge("one feature vector zero", subject.build(), some, labels)
    yield Edge("all feature vectors zero", subject.build(), torch.zeros_like(features), labels)
    yield Edge("all feature vectors equal", subject.build(), features[:1] + 0 * features, labels)
    yield Edge("a batch of one", subject.build(), features[:1], labels[:1])
    yield Edge("one class in the batch", subject.build(), features, torch.zeros_like(labels))
    if classifier_of(subject.build()) is not None:
        for name, rows in (("one class weight zero", slice(0, 1)), ("all zero", slice(None))):
            head = subject.build()
            weight = classifier_of(head)
            assert weight is not None
            with torch.no_grad():
                weight[rows] = 0
            yield Edge(f"class weights: {name}", head, features, labels)
    try:
        single = subject.build(num_classes=1)
    except UserError:
        return  # refused in words: parameters made for another number of classes
    yield Edge("one class in all", single, features, torch.zeros_like(labels))


def _angles(subject: Subject, norm: float, axes: bool, dtype: torch.dtype) -> Edge:
    """One sample at each border angle to its class weight.

    Args:
        norm: of the features.
        axes: whether the class weights are unit vectors along the axes, so that θ = 0, π/2 and π
            come out exact; else they are random.
    """
    head = subject.build()
    weight = classifier_of(head)
    if axes:
        assert weight is not None
        with torch.no_grad():
            unit = torch.eye(subject.num_classes, subject.in_features, device=subject.device)
            weight.copy_(unit.view(len(unit), *[1] * (weight.dim() - 2), -1).expand_as(weight))
    features, labels = subject.at_angles(head, list(border_angles().values()), norm)
    kind = "axis" if axes else "random"
    return Edge(f"norm {norm:g}, {kind} class weights", head, features.to(dtype), labels)


def _problem(edge: Edge) -> str:
    """What is not finite, in words; "" if all is."""
    edge.head.train()
    loss, found = gradients(edge.head, edge.features, edge.labels)
    if not loss.isfinite():
        return f"the loss is {float(loss)}"
    for name, gradient in found.items():
        # float16 cannot hold the gradient of a very short vector: beyond 65,504 it is infinite, as
        # the loss scaling of mixed precision expects. NaN never is right.
        sound = gradient.isfinite()
        if gradient.dtype == torch.float16:
            sound = sound | gradient.isinf()
        if not sound.all():
            return f"the gradient for {name!r} is not finite"
    with torch.no_grad():
        if not edge.head.eval().logits(edge.features).isfinite().all():
            return "the test logits are not finite"
    return ""


def _narrowed(edge: Edge) -> str:
    """The edge's name, with the angle that alone breaks, if one does."""
    names = list(border_angles())
    if edge.name.startswith("norm") and len(edge.labels) == len(names):
        for i, name in enumerate(names):
            one = slice(i, i + 1)
            if _problem(Edge("", edge.head, edge.features[one], edge.labels[one])):
                return f"θ = {name}, {edge.name}"
    return edge.name


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
