"""What the checks observe of a head: loss, gradients, logits, the tensors that it holds."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from marginbench.heads import Head

EXACT = 1e-9
"""The relative difference that equal computations in float64 have at most."""
_SEEDED = torch.Generator().manual_seed(0).get_state()


@contextmanager
def same_randomness() -> Iterator[None]:
    """Random numbers from a fixed seed inside, and as before outside: a head may have dropout."""
    if torch.cuda.is_available():
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(0)
            yield
        return
    before = torch.get_rng_state()
    torch.set_rng_state(_SEEDED)
    try:
        yield
    finally:
        torch.set_rng_state(before)


def gradients(head: Head, features: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss, and its gradients by name: "features" and the head's parameters."""
    features = features.detach().clone().requires_grad_()
    head.zero_grad()
    with same_randomness():
        loss = head(features, labels)
    loss.backward()
    named = {"features": features, **dict(head.named_parameters())}
    return loss.detach(), {name: t.grad for name, t in named.items() if t.grad is not None}


def loss_of(head: Head, features: Tensor, labels: Tensor) -> Tensor:
    """The loss, without gradient; in training mode that of a copy, so that no state moves."""
    if not head.training:
        with torch.no_grad():
            return head(features.clone(), labels.clone())
    with torch.no_grad(), same_randomness():
        return copy.deepcopy(head)(features.clone(), labels.clone())


def logits_of(head: Head, features: Tensor) -> Tensor:
    """The logits (N, K) in evaluation mode, without gradient; the head keeps its mode."""
    training = head.training
    with torch.no_grad():
        logits = head.eval().logits(features.clone())
    head.train(training)
    return logits


def directions(logits: Tensor) -> Tensor:
    """Each row divided by its length: what is left of it when its scale does not count."""
    return torch.nn.functional.normalize(logits, dim=1)


def random_in_training(head: Head, features: Tensor, labels: Tensor) -> bool:
    """Whether the loss in training mode draws random numbers, as dropout does."""
    with torch.no_grad(), torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        losses = [copy.deepcopy(head).train()(features.clone(), labels) for _ in range(2)]
    return not torch.equal(*losses)


def held_tensors(head: Head) -> Iterator[tuple[str, Tensor]]:
    """Every tensor that a head or a part of it holds, registered or not, by name."""
    for prefix, module in head.named_modules():
        plain = {key: value for key, value in vars(module).items() if isinstance(value, Tensor)}
        for key, value in {**module._parameters, **module._buffers, **plain}.items():
            if value is not None:
                yield f"{prefix}.{key}" if prefix else key, value


def unregistered_tensors(head: Head) -> Iterator[tuple[str, Tensor]]:
    """Those of the tensors that are neither parameters nor buffers."""
    registered = {id(t) for t in (*head.parameters(), *head.buffers())}
    yield from ((name, t) for name, t in held_tensors(head) if id(t) not in registered)


def classifier_of(head: Head) -> nn.Parameter | None:
    """The parameter of class weights, (K, ..., D), if the head has one."""
    for parameter in head.parameters():
        shape = parameter.shape
        if len(shape) > 1 and shape[0] == head.num_classes and shape[-1] == head.in_features:
            return parameter
    return None


def at_worst(found: Tensor, expected: Tensor) -> str:
    """The two entries that differ most, in words."""
    worst = int((found.detach() - expected.detach()).abs().nan_to_num(nan=torch.inf).argmax())
    one, other = (float(tensor.detach().reshape(-1)[worst]) for tensor in (found, expected))
    return f"{one:.6g}, and {other:.6g}"


def relative_difference(one: Tensor, other: Tensor) -> float:
    """The largest difference of two tensors, relative to the largest entry (at least 1)."""
    scale = max(float(other.detach().abs().max()), 1.0)
    return float((one.detach() - other.detach()).abs().max()) / scale
