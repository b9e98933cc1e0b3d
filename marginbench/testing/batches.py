"""What a loss does with its batch: reads it, each sample alike, and keeps nothing of it."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor

from marginbench.heads import Head
from marginbench.testing.check_in_modes import CheckFailure
from marginbench.testing.observation import (
    EXACT,
    at_worst,
    gradients,
    loss_of,
    random_in_training,
    relative_difference,
    same_randomness,
)
from marginbench.testing.subject import Subject

COUNTS = 1e-12
"""The least relative change of the loss by which a sample can be said to count."""


def inputs_stay_as_they_are(subject: Subject) -> str:
    """``loss`` and ``logits`` change not a bit of features, labels and parameters."""
    for training in (True, False):
        head = subject.build().train(training)
        given, labels = subject.batch()
        # Not a leaf, as what comes out of a backbone: autograd lets it be changed in place.
        features = given.clone().requires_grad_() * 1
        before = {"the labels": labels, **dict(head.named_parameters()), "the features": features}
        before = {name: tensor.detach().clone() for name, tensor in before.items()}
        for call in ("loss", "logits"):
            with same_randomness():
                _ = head(features, labels) if call == "loss" else head.logits(features)
            after = {
                "the labels": labels, **dict(head.named_parameters()), "the features": features,
            }  # fmt: skip
            for name, tensor in after.items():
                if not torch.equal(tensor.detach(), before[name]):
                    what = name if name.startswith("the ") else f"the parameter {name!r}"
                    mode = "training" if training else "evaluation"
                    raise CheckFailure(f"{call} changes {what} in place, in {mode} mode")
    return "features, labels and parameters are the same to the bit after loss and logits"


def samples_count_alike(subject: Subject) -> str:
    """The loss is a mean over the batch, free of its order, to which every sample contributes.

    A loss over pairs of samples need not be the same for a batch that holds each sample twice.
    """
    features, labels = subject.batch(dtype=torch.float64)
    odd = slice(-min(len(labels) - 1, 7), None)  # a number of samples that is odd, and few of many
    features, labels = features[odd], labels[odd]
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(5))
    order = order.to(subject.device)
    worst, counted = 0.0, False
    for training in (True, False):
        head = subject.build(dtype=torch.float64).train(training)
        mode = "training" if training else "evaluation"
        if training and random_in_training(head, features, labels):
            continue  # its random numbers go by the position in the batch
        loss = loss_of(head, features, labels)
        difference = relative_difference(loss_of(head, features[order], labels[order]), loss)
        if not difference <= EXACT:
            raise CheckFailure(
                f"the loss depends on the order of the batch: off by {difference:.2g} of its size "
                f"with the samples in another order, in {mode} mode"
            )
        worst = max(worst, difference)
        # Batch statistics of a head need not be those of a batch twice as large.
        if not head.needs_pairs and not (training and moves_state(head, features, labels)):
            every = torch.arange(len(labels), device=labels.device)
            parted = [every.split(1), every.split(5), [every.repeat(2)], [every.repeat(40)]]
            for parts in parted[:1] if subject.mode else parted:
                losses = [len(p) * loss_of(head, features[p], labels[p]) for p in parts]
                mean = torch.stack(losses).sum() / sum(map(len, parts))
                difference = relative_difference(mean, loss)
                if not difference <= EXACT:
                    raise CheckFailure(
                        f"the loss is no mean over the samples: {at_worst(loss, mean)} by batches "
                        f"of {len(parts[0])} of these {len(labels)}, in {mode} mode"
                    )
                worst = max(worst, difference)
        if counted:
            continue
        counted = True
        reached = gradients(copy.deepcopy(head), features, labels)[1]["features"].any(dim=1)
        for i in range(len(labels)):
            unused = _unused(head, features, labels, i, {"label"} if reached[i] else _BOTH)
            if unused:
                raise CheckFailure(
                    f"sample {i} of {len(labels)} does not count: with other {unused} the loss is "
                    f"the same, in {mode} mode"
                )
    return f"{len(labels)} samples count, in any order; largest relative difference {worst:.1e}"


def moves_state(head: Head, features: Tensor, labels: Tensor) -> bool:
    """Whether a training loss moves a floating-point buffer, a running mean for example."""
    head = copy.deepcopy(head)
    before = {name: buffer.clone() for name, buffer in head.named_buffers()}
    with torch.no_grad():
        head(features.clone(), labels.clone())
    return any(
        buffer.is_floating_point() and not torch.equal(buffer, before[name])
        for name, buffer in head.named_buffers()
    )


_BOTH = frozenset({"features", "label"})


def _unused(head: Head, features: Tensor, labels: Tensor, i: int, asked: Iterable[str]) -> str:
    """Which of what is asked of sample i, "features" or "label", is without effect; or ""."""
    other = features.clone()
    other[i] = features[i - 1].flip(0) + 1
    loss = loss_of(head, features, labels)
    unused = set(asked)
    first = 0 if "features" in unused else 1
    for step in range(first, head.num_classes):
        changed = labels.clone()
        changed[i] = (labels[i] + step) % head.num_classes
        with_label = loss_of(head, features, changed) if step else loss
        if "label" in unused and relative_difference(with_label, loss) > COUNTS:
            unused.remove("label")
        if "features" in unused:
            with_both = loss_of(head, other, changed)
            if relative_difference(with_both, with_label) > COUNTS:
                unused.remove("features")
        if not unused:
            return ""
    if head.num_classes == 1:
        unused.discard("label")
    return " and ".join(sorted(unused))


def evaluation_leaves_no_trace(subject: Subject) -> str:
    """In evaluation mode no state moves, and a batch has the same loss whatever went before.

    ``logits`` moves no state in training mode either.
    """
    head = subject.build()
    for training, call in ((False, "loss"), (False, "logits"), (True, "logits")):
        head.train(training)
        before = {name: tensor.clone() for name, tensor in head.state_dict().items()}
        features, labels = subject.batch()
        with torch.no_grad():
            _ = head(features, labels) if call == "loss" else head.logits(features)
        for name, tensor in head.state_dict().items():
            if not torch.equal(tensor, before[name]):
                mode = "training" if training else "evaluation"
                raise CheckFailure(f"{call} in {mode} mode changes the state {name!r}")
    head.eval()
    with torch.no_grad(), torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        outputs = []
        for _ in range(2):
            features, labels = subject.batch()
            outputs.append((head.logits(features), head(features, labels)))
            head(*subject.batch(1))
    for what, one, other in zip(("logits", "loss"), *outputs, strict=True):
        if not torch.equal(one, other):
            raise CheckFailure(
                f"in evaluation mode the {what} of one batch changes from call to call, by "
                f"{relative_difference(other, one):.2g} of its size"
            )
    return f"unchanged: {', '.join(head.state_dict()) or 'no state'}; losses repeat to the bit"
