"""The cross-entropy over many classes, some of them at a time: no logits of (N, K) are ever held.

Two rounds over the classes. The first takes log Σ_{j≠y} exp z_j, the target masked; the loss is
then logaddexp of that and the target's logit, less the target's logit. The second makes the
logits again, and from them the gradient: the softmax is known by then. A classifier's gradient is
a sum over samples of products with that softmax, so that no single round can have it without all
logits. A part of them may be kept from the first round, as far as memory is granted for it; each
kept part saves one matrix product of four.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from marginbench.heads import geometry
from marginbench.heads.shards import Shard


class LogitsInParts(Protocol):
    """The logits of a part of the classes, and what their gradient does to the inputs.

    Attributes:
        inputs: what the gradients are for, the classifier (K, ..., D) first.
    """

    inputs: Sequence[Tensor]
    can_keep: bool
    """Whether the gradient can be had from logits of the first round."""

    def logits(self, start: int, stop: int, *, keep: bool, differentiable: bool) -> Tensor:
        """(N, stop − start), which the caller may overwrite unless it is differentiable.

        Args:
            start, stop: the part of the classes.
            keep: whether they outlive the next call.
            differentiable: whether :meth:`add_gradient` comes next.
        """
        ...

    def add_gradient(self, start: int, stop: int, slope: Tensor) -> None:
        """Add to the gradients, given that of the loss in the logits of this part.

        These are the logits made last, or kept ones.
        """
        ...

    def gradients(self) -> list[Tensor | None]:
        """Of the inputs, in their order."""
        ...


def chunked_cross_entropy(
    parts: Callable[[Sequence[Tensor]], LogitsInParts],
    inputs: Sequence[Tensor],
    labels: Tensor,
    target: Tensor,
    *,
    chunk: int,
    keep: int = 0,
    sample_weights: Tensor | None = None,
    shard: Shard | None = None,
) -> Tensor:
    """Σ_i a_i·(−log softmax(z_i)_{y_i}), exact up to rounding, with gradients to all inputs.

    Args:
        parts: makes the logits of the other classes from the detached inputs.
        inputs: the classifier (K, ..., D), then whatever else the logits are made of.
        labels: (N,), int64.
        target: (N,), the target's logit, with whatever graph is behind it.
        chunk: classes at a time, ≥ 1.
        keep: bytes of logits that may be kept for the gradient; never more than half of all.
        sample_weights: (N,), a; None: 1/N each, the mean.
        shard: which of all classes the classifier has; None: all.

    Returns:
        A scalar. Its gradient is computed here, and can be taken once.
    """
    if sample_weights is None:
        sample_weights = torch.full_like(target, 1 / len(target), requires_grad=False)
    if shard is not None:
        # What other ranks' classes do to these comes back to every rank.
        inputs = [inputs[0], *(shard.spread(tensor) for tensor in inputs[1:])]
    return _ChunkedCrossEntropy.apply(
        parts,
        labels,
        sample_weights,
        chunk,
        keep,
        shard,
        torch.is_grad_enabled() and any(t.requires_grad for t in (target, *inputs)),
        target,
        *inputs,
    )


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any,
        make_parts: Callable[[Sequence[Tensor]], LogitsInParts],
        labels: Tensor,
        sample_weights: Tensor,
        chunk: int,
        keep: int,
        shard: Shard | None,
        wants_gradient: bool,
        target: Tensor,
        *inputs: Tensor,
    ) -> Tensor:
        parts = make_parts([tensor.detach() for tensor in inputs])
        classes = len(inputs[0])
        if shard is not None:
            labels = labels - shard.first
        bounds = [(start, min(start + chunk, classes)) for start in range(0, classes, chunk)]
        sums = target.new_full((len(target), max(len(bounds), 1)), -torch.inf)
        kept: dict[int, Tensor] = {}
        granted = min(keep // (len(target) * chunk * target.element_size()), len(bounds) // 2)
        for number, (start, stop) in enumerate(bounds):
            keeps = wants_gradient and parts.can_keep and len(kept) < granted
            logits = parts.logits(start, stop, keep=keeps, differentiable=False)
            if keeps:
                kept[start] = logits
            sums[:, number] = _mask(logits, labels, start, -torch.inf).logsumexp(dim=1)
        others = sums.logsumexp(dim=1)
        if shard is not None:
            others = shard.log_sum_exp(others)
        total = torch.logaddexp(others, target)
        if wants_gradient:
            # a·softmax = exp(z − total + log a).
            shift = (total - sample_weights.log())[:, None]
            for start, stop in bounds:
                if start in kept:
                    logits = kept.pop(start)
                else:
                    logits = parts.logits(start, stop, keep=False, differentiable=True)
                slope = torch.sub(logits.detach(), shift, out=_buffer(logits)).exp_()
                parts.add_gradient(start, stop, _mask(slope, labels, start, 0.0))
            # 1 − p as the others' share: 1 − exp(…) would lose it where p is near 1.
            own = -sample_weights * (others - total).exp()
            context.gradients = [own, *parts.gradients()]
        return (sample_weights * (total - target)).sum()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(context: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        gradients, context.gradients = context.gradients, None
        if gradients is None:
            raise RuntimeError(
                "the gradient of a loss over chunks of classes can be taken once; compute the "
                "loss again, or build the head with chunk=0"
            )
        # A look at the number costs nothing on the CPU, and a pass over the classifier's gradient
        # is a tenth of a step there; on CUDA it would wait for the device.
        if not geometry.is_on_host(upstream) or upstream.item() != 1:
            for gradient in gradients:
                if gradient is not None:
                    gradient.mul_(upstream)
        return (None,) * 7 + tuple(gradients)


def _buffer(logits: Tensor) -> Tensor | None:
    """Where a result of the size of the logits may go: over them, unless a graph needs them."""
    return None if logits.requires_grad else logits


def _mask(values: Tensor, labels: Tensor, start: int, instead: float) -> Tensor:
    """Put a number where a class is the sample's own, in place; no host synchronisation."""
    place = labels - start
    inside = (place >= 0) & (place < values.shape[1])
    place = place.clamp(0, values.shape[1] - 1)[:, None]
    kept = torch.where(inside[:, None], instead, values.gather(1, place))
    return values.scatter_(1, place, kept)


def own_rows(weight: Tensor, labels: Tensor, shard: Shard | None = None) -> tuple[Tensor, Tensor]:
    """The classifier's rows of the labels, and the classifier to be used beside them.

    ``weight[labels]`` has a gradient of the size of the classifier; here the rows' gradient is
    added to the one that the classifier beside them gets.

    Args:
        weight: (K, ..., D).
        labels: (N,).
        shard: which of all classes ``weight`` has: the rows of others are zero.

    Returns:
        (N, ..., D), and ``weight`` itself, (K, ..., D).
    """
    if shard is not None:
        labels = labels - shard.first
    return _OwnRows.apply(weight, labels, shard is not None)


class _OwnRows(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any, weight: Tensor, labels: Tensor, partial: bool
    ) -> tuple[Tensor, Tensor]:
        context.set_materialize_grads(False)
        context.shape = weight.shape
        place, inside = labels, None
        if partial:
            inside = (labels >= 0) & (labels < len(weight))
            place = labels.clamp(0, max(len(weight) - 1, 0))
        rows = weight.index_select(0, place)
        if inside is not None:
            rows *= inside.view(-1, *[1] * (rows.dim() - 1))
        context.save_for_backward(place, inside)
        return rows, weight.view_as(weight)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        context: Any, rows: Tensor | None, classifier: Tensor | None
    ) -> tuple[Tensor | None, None, None]:
        place, inside = context.saved_tensors
        if rows is None:
            return classifier, None, None
        if inside is not None:
            rows = rows * inside.view(-1, *[1] * (rows.dim() - 1))
        if classifier is None:
            classifier = rows.new_zeros(context.shape)
        return classifier.index_add_(0, place, rows), None, None
