"""How the softmax-type heads take their classes: all at once, in chunks, sampled, or in shards."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from marginbench.heads.chunked import own_rows
from marginbench.heads.shards import Shard
from marginbench.plugins.parameters import AddedLater

CHUNKED_FROM = 2**24
"""Bytes of logits (N·K numbers) from which on the loss is taken in chunks by itself."""
KEPT = 2**26
"""Bytes of logits at most that a loss in chunks keeps for its gradient if ``chunk`` is not given.
Half of all logits at most, too, so that (N, K) are never held."""
KEPT_CLASSES = 2**16
"""Classes whose logits are kept at most: 6.6 % of a million, whatever the batch."""
CHUNK_ON_CPU = 1024
CHUNK_ON_DEVICE = 16_384

Chunk = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(gt=0, le=1)]


@dataclass(frozen=True)
class ManyClasses:
    """How a head's loss takes its classes.

    Attributes:
        chunk: so many at a time; 0: all at once; None: by size, see :meth:`chunk_for`.
        sampled_classes: the share of the classes that a training step takes.
        shard: which of all classes this process has; None: all.
    """

    chunk: int | None = None
    sampled_classes: float = 1.0
    shard: Shard | None = None

    def sample_size(self, samples: int, num_classes: int) -> int:
        """The number of classes of a training step: max(⌈share·K⌉, N), at most K.

        PartialFC has the number of distinct labels for N. N is its bound: sizes do not follow the
        labels, and nothing waits for the device.

        Args:
            samples: N.
            num_classes: K.
        """
        return min(max(math.ceil(self.sampled_classes * num_classes), samples), num_classes)

    def chunk_for(self, logits: int, item_size: int, device: torch.device) -> int:
        """Classes at a time; 0: all at once.

        By size, that is from :data:`CHUNKED_FROM` bytes of logits on; below, all logits at once
        are as fast. The size is that of the cell, so that the same cell has the same result.

        Args:
            logits: N·K.
            item_size: bytes of a number.
            device: has the classifier.
        """
        if self.chunk is not None and (self.chunk or self.shard is None):
            return self.chunk
        if self.shard is None and logits * item_size < CHUNKED_FROM:
            return 0
        return CHUNK_ON_CPU if device.type == "cpu" else CHUNK_ON_DEVICE


def many_classes(
    *,
    chunk: Annotated[Chunk | None, AddedLater(None)] = None,
    sampled_classes: Annotated[Share, AddedLater(1.0)] = 1.0,
) -> ManyClasses:
    """The parameters that every head with a softmax over its classes has besides its own.

    Args:
        chunk: classes whose logits are held at a time; None: by size, 0: all. The loss is the
            same up to rounding.
        sampled_classes: share of the classes that a training step takes, those of the batch among
            them. Below 1 the loss is an approximation: another one than the head's formula.
    """
    return ManyClasses(chunk, sampled_classes)


def no_many_classes() -> ManyClasses:
    """Of a head with another loss: it has all its classes at once, and no parameters for that."""
    return ManyClasses(chunk=0)


class TakenClasses(NamedTuple):
    """The classes of one step.

    Attributes:
        weight: (K', ..., D), the classifier of these.
        rows: (N, ..., D), those of the samples' own classes.
        labels: (N,), among these.
        chosen: (K',), their numbers among all, rising; None: all.
        chunk: of them at a time, ≥ 1.
        keep: bytes of logits that may be kept for the gradient.
        shard: of all processes; None: this one has all.
    """

    weight: Tensor
    rows: Tensor
    labels: Tensor
    chosen: Tensor | None
    chunk: int
    keep: int
    shard: Shard | None

    def of_all(self, numbers: Tensor) -> Tensor:
        """Those of these classes from one number for each of all K."""
        return numbers if self.chosen is None else numbers.index_select(0, self.chosen)

    def total(self, partial: Tensor) -> Tensor:
        """What only the process with a sample's class knows, for all of them."""
        return partial if self.shard is None else self.shard.total(partial)

    def spread(self, whole: Tensor) -> Tensor:
        """What is made here of a tensor that all have; the gradients of all come back."""
        return whole if self.shard is None else self.shard.spread(whole)


def take_classes(
    how: ManyClasses, weight: Tensor, labels: Tensor, num_classes: int, *, training: bool
) -> TakenClasses | None:
    """The classes that the loss of a batch takes, or None: all of them at once.

    Args:
        how: see there.
        weight: the head's classifier (K, ..., D), or this process's shard of it.
        labels: (N,).
        num_classes: K.
        training: whether classes may be sampled.
    """
    sampled = training and how.sampled_classes < 1
    per_class = math.prod(weight.shape[1:-1])
    chunk = how.chunk_for(
        len(labels) * num_classes * per_class, weight.element_size(), weight.device
    )
    if not sampled and not chunk:
        return None
    chosen = None
    if sampled:
        chosen, labels = _sample(labels, num_classes, how.sample_size(len(labels), num_classes))
        weight = _SampledRows.apply(weight, chosen)
    chunk = max(1, (chunk or len(weight)) // (per_class if how.chunk is None else 1))
    rows, weight = own_rows(weight, labels, how.shard)
    size = weight.element_size() * len(labels)
    keep = min(KEPT, KEPT_CLASSES * size) if how.chunk is None else 0
    return TakenClasses(weight, rows, labels, chosen, chunk, keep, how.shard)


def _sample(labels: Tensor, num_classes: int, count: int) -> tuple[Tensor, Tensor]:
    """So many classes, those of the labels and others at random; and the labels among them.

    The draw is of torch's global generator, which stands at the step's own seed.
    """
    drawn = torch.rand(num_classes, device=labels.device).index_fill_(0, labels, 2.0)
    chosen = drawn.topk(count, sorted=False).indices.sort().values
    return chosen, torch.searchsorted(chosen, labels)


class _SampledRows(torch.autograd.Function):
    """Some rows of the classifier; its gradient is sparse, of these rows alone."""

    @staticmethod
    def forward(context: Any, weight: Tensor, chosen: Tensor) -> Tensor:
        context.save_for_backward(chosen)
        context.shape = weight.shape
        return weight.index_select(0, chosen)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (chosen,) = context.saved_tensors
        return (
            torch.sparse_coo_tensor(
                chosen[None], gradient, context.shape, is_coalesced=True, check_invariants=False
            ),
            None,
        )
