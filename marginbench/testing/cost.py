"""What a head costs in time and memory, beside plain softmax on the same batch."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from marginbench.errors import UserError
from marginbench.heads import Head
from marginbench.testing.check_in_modes import CheckFailure
from marginbench.testing.subject import Subject

SAMPLES, FEATURES, CLASSES = 128, 128, 500
REPEATS = 3
MOST_MEMORY = 64.0
"""How many times softmax's memory is too much: an intermediate of size (N, K, D) takes 128."""


def cost_beside_softmax(subject: Subject) -> str:
    """Time of forward and backward, and bytes kept for backward; memory alone can fail.

    Time is reported and not judged: it is the machine's as much as the head's.
    """
    try:
        head, classes = subject.build(in_features=FEATURES, num_classes=CLASSES), CLASSES
    except UserError:  # parameters made for another number of classes
        head, classes = subject.build(in_features=FEATURES), subject.num_classes
    softmax = Subject("softmax", device=subject.device)
    plain = softmax.build(in_features=FEATURES, num_classes=classes)
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(SAMPLES, FEATURES, generator=generator).to(subject.device)
    labels = (torch.arange(SAMPLES) // 2 % classes).to(subject.device)
    seconds, kept = _seconds(head, features, labels), _bytes_kept(head, features, labels)
    plain_seconds = _seconds(plain, features, labels)
    plain_kept = _bytes_kept(plain, features, labels)
    detail = (
        f"time {seconds / plain_seconds:.1f}x softmax ({seconds * 1e3:.2f} ms), memory "
        f"{kept / plain_kept:.1f}x ({kept / 2**20:.2f} MiB) at {SAMPLES}x{FEATURES}, "
        f"{classes} classes"
    )
    if kept > MOST_MEMORY * plain_kept:
        raise CheckFailure(f"{detail}; allowed: {MOST_MEMORY:g}x softmax's memory")
    return detail


def _seconds(head: Head, features: Tensor, labels: Tensor) -> float:
    """The least of some runs, after one that does not count."""
    best = float("inf")
    for attempt in range(REPEATS + 1):
        inputs = features.clone().requires_grad_()
        _wait(features)
        start = time.perf_counter()
        head(inputs, labels).backward()
        _wait(features)
        if attempt:
            best = min(best, time.perf_counter() - start)
    return best


def _bytes_kept(head: Head, features: Tensor, labels: Tensor) -> int:
    """The bytes of what autograd keeps between forward and backward, parameters left out."""
    kept = {}
    own = {p.untyped_storage().data_ptr() for p in head.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            # The tensor is held too, so that its memory is not given to another meanwhile.
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = head(features.clone().requires_grad_(), labels)
    total = sum(size for size, _ in kept.values())
    loss.backward()
    return total


def _wait(tensor: Tensor) -> None:
    if tensor.is_cuda:
        torch.cuda.synchronize(tensor.device)
