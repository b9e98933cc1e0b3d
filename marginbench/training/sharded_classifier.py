"""The classifier cut over the processes of a cell: each has some of the classes.

Every process has the features of the whole batch. For the loss they exchange three vectors of N
numbers: of each sample the cosine or logit of its own class (and ‖w_y‖ where a margin wants it),
the largest of the other classes' log-sum-exp, and the sum of theirs. The loss and what a head
learns besides are then the same everywhere, and the gradient of a class stays where the class is.
Backward adds up what the shards say of the features.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, distributed, nn

from marginbench.heads import Head
from marginbench.training.functional_optimiser import FunctionalOptimiser
from marginbench.training.ranks import Ranks


@dataclass(frozen=True)
class ConnectedShard:
    """The classes from ``first`` on, and torch.distributed to those that have the rest."""

    first: int

    def total(self, partial: Tensor) -> Tensor:
        return _Total.apply(partial)

    def spread(self, whole: Tensor) -> Tensor:
        return _Spread.apply(whole)

    def log_sum_exp(self, own: Tensor) -> Tensor:
        largest = own.clone()
        distributed.all_reduce(largest, distributed.ReduceOp.MAX)
        # With one class in all there is no other: every rank has −inf.
        finite = torch.where(largest.isinf(), 0, largest)
        total = (own - finite).exp()
        distributed.all_reduce(total)
        return finite + total.log()


class _Total(torch.autograd.Function):
    """The sum over the ranks; every rank goes on alike, so the gradient of each part is whole."""

    @staticmethod
    def forward(context: Any, partial: Tensor) -> Tensor:
        total = partial.detach().clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return gradient


class _Spread(torch.autograd.Function):
    """The same on every rank; each rank has a part of its gradient."""

    @staticmethod
    def forward(context: Any, whole: Tensor) -> Tensor:
        return whole.view_as(whole)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(gradient)
        return gradient


class ShardedClassifier:
    """A head's classifier, cut in place: this process keeps its classes and their state.

    Args:
        head: with all its classes, the same on every rank; its ``weight`` (K, ..., D) is cut.
        optimiser: of the head; what it keeps of the weight's rows, their momentum say, is cut too.
        ranks: connected.
    """

    def __init__(self, head: Head, optimiser: FunctionalOptimiser, ranks: Ranks) -> None:
        self._weight: nn.Parameter = head.weight  # type: ignore[assignment]
        self._state = optimiser.state
        self._ranks = ranks
        self._bounds = [len(self._weight) * rank // ranks.size for rank in range(ranks.size + 1)]
        self._cut()
        shard = ConnectedShard(self._bounds[ranks.rank])
        head.many_classes = replace(head.many_classes, shard=shard)
        self._head = head

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Within it rank 0 has all classes and all their state, to evaluate and to save.

        To be entered by every rank. Rank 0 then has memory for all classes.
        """
        own, own_rows = self._weight.data, self._rows_kept()
        many_classes = self._head.many_classes
        weight = self._gathered(own)
        whole_rows = {name: self._gathered(rows) for name, rows in own_rows.items()}
        if self._ranks.leads:
            self._weight.data = weight
            self._keep_rows(whole_rows)
            self._head.many_classes = replace(many_classes, shard=None)
        try:
            yield
        finally:
            self._weight.data = own
            self._keep_rows(own_rows)
            self._head.many_classes = many_classes

    def _gathered(self, own: Tensor) -> Tensor:
        """All ranks' rows on rank 0; of no use elsewhere."""
        rank, bounds = self._ranks.rank, self._bounds
        whole = own.new_empty(bounds[-1] if rank == 0 else 0, *own.shape[1:])
        for source in range(self._ranks.size):
            start, stop = bounds[source], bounds[source + 1]
            if source == rank:
                part = own.contiguous()
            else:
                part = own.new_empty(stop - start, *own.shape[1:])
            distributed.broadcast(part, src=source)
            if rank == 0:
                whole[start:stop] = part
        return whole

    def _cut(self) -> None:
        start, stop = self._bounds[self._ranks.rank], self._bounds[self._ranks.rank + 1]
        self._weight.data = self._weight.data[start:stop].clone()
        self._keep_rows({n: rows[start:stop].clone() for n, rows in self._rows_kept().items()})

    def _rows_kept(self) -> dict[str, Tensor]:
        """What the optimiser keeps of each row of the weight, by name."""
        entries = self._state.get(self._weight, {})
        return {name: rows for name, rows in entries.items() if rows is not None and rows.ndim}

    def _keep_rows(self, entries: dict[str, Tensor]) -> None:
        if entries:
            self._state[self._weight].update(entries)


def can_be_sharded(head: Head, samples: int, ranks: Ranks) -> bool:
    """Whether a head's classifier is cut: its loss is taken in chunks, and every rank gets classes.

    Args:
        head: with all its classes.
        samples: N, the batch size.
        ranks: of the cell.
    """
    if ranks.size == 1 or not head.softmax_over_classes or head.many_classes.sampled_classes < 1:
        return False
    weight: Tensor = head.weight  # type: ignore[assignment]
    logits = samples * weight[..., 0].numel()
    chunk = head.many_classes.chunk_for(logits, weight.element_size(), weight.device)
    return chunk > 0 and len(weight) >= ranks.size
