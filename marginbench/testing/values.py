"""Test logits in value: those of the loss without margin, of true cosines, however classes go."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from marginbench.errors import UserError
from marginbench.heads import Head, head_class
from marginbench.heads.cosine import CosineHead
from marginbench.testing.batches import moves_state
from marginbench.testing.check_in_modes import CheckFailure, NotApplicable
from marginbench.testing.margins import margin_names
from marginbench.testing.observation import (
    EXACT,
    at_worst,
    classifier_of,
    directions,
    gradients,
    logits_of,
    random_in_training,
    relative_difference,
)
from marginbench.testing.subject import Subject

SAMPLES = 2


def logits_are_those_of_the_loss(subject: Subject) -> str:
    """If the loss without margin is a softmax of some logits, then of the test logits.

    It is one if Σ_y exp(−loss(x, y)) is the same for every x; −loss(x, y) is then log p(y).
    """
    features = subject.batch(dtype=torch.float64)[0][:SAMPLES]
    for twin in _without_margin(subject):
        for training in (False, True):
            head = copy.deepcopy(twin).train(training)
            found = _log_probabilities(head, features)
            if found is None:
                continue
            totals = found.logsumexp(dim=1, keepdim=True)
            if not relative_difference(totals, totals[:1].expand_as(totals)) <= EXACT:
                break
            expected = logits_of(twin, features).log_softmax(dim=1)
            if not relative_difference(found - totals, expected) <= EXACT:
                mode = "training" if training else "evaluation"
                raise CheckFailure(
                    "without margin the loss is a softmax of other logits than the test logits: "
                    f"log p is {at_worst(expected, found - totals)}, in {mode} mode"
                )
        else:
            return "the softmax of the test logits is the loss's without margin"
    raise NotApplicable("the loss is not known to be a softmax over the classes without its margin")


@torch.no_grad()
def _log_probabilities(head: Head, features: Tensor) -> Tensor | None:
    """−loss of each sample for each label, (N, K); None if the loss is random or moves state."""
    labels = torch.arange(head.num_classes, device=features.device).split(1)
    if head.training and (
        random_in_training(head, features[:1], labels[0])
        or moves_state(head, features[:1], labels[0])
    ):
        return None
    rows = [[-head(x.clone(), label.clone()) for label in labels] for x in features.split(1)]
    return torch.stack([torch.stack(row) for row in rows])


def _without_margin(subject: Subject) -> Iterator[Head]:
    """The head with its margin off, in each way that may do it."""
    declared = head_class(subject.name).without_margin
    head = subject.build(dtype=torch.float64)
    names = margin_names(subject)
    ways = [{name: type(subject.resolved()[name])(n) for name in names} for n in (0, 1)]
    if declared:
        others = declared.parameters.keys() - declared.head_parameters.keys()
        ways.insert(0, {name: declared.parameters[name] for name in others})
    if isinstance(head, CosineHead):
        off = {
            "target_of_class": lambda self, cosine, *_: cosine,
            "others": lambda self, cosine, _: cosine,
            "softmax_over_classes": head.softmax_over_classes,
        }
        yield _changed(head, off)
    for changes in ways:
        try:
            yield subject.build(dtype=torch.float64, **changes)
        except UserError:
            continue
    if isinstance(head, CosineHead) and head.softmax_over_classes:
        # What the loss has besides may depend on features and labels.
        yield _changed(head, {**off, "loss": lambda self, *batch: self.softmax_loss(*batch)[0]})


def _changed(head: Head, methods: dict[str, Any]) -> Head:
    twin = copy.deepcopy(head)
    twin.__class__ = type("WithoutMargin", (type(head),), methods)
    return twin


def chunks_change_nothing(subject: Subject) -> str:
    """Loss, gradients and state over chunks of classes, and of all as a sample, are the same."""
    if not head_class(subject.name).softmax_over_classes:
        raise NotApplicable("the head takes all classes at once")
    features, labels = subject.batch(dtype=torch.float64)
    classes, worst = subject.num_classes, 0.0
    ways: list[dict[str, Any]] = [{"chunk": max(1, classes // 3)}, {"chunk": classes - 1}]
    if not random_in_training(subject.build(dtype=torch.float64), features, labels):
        ways.append({"sampled_classes": 1 - 0.5 / classes})  # rounded up to all
    for mode in ("training", "evaluation")[: 1 if subject.mode else 2]:
        results = []
        for changes in [{}, *(ways[1:] if subject.mode else ways)]:
            given = {"chunk": 0, "sampled_classes": 1.0, **changes}
            head = subject.build(dtype=torch.float64, **given).train(mode == "training")
            loss, found = gradients(head, features, labels)
            found = {name: gradient.to_dense() for name, gradient in found.items()}
            results.append({"loss": loss, **found, **dict(head.named_buffers())})
            for name, tensor in results[-1].items():
                expected = results[0][name]
                worst = max(worst, relative_difference(tensor, expected))
                if not worst <= EXACT:
                    how = ", ".join(f"{key} = {value:g}" for key, value in changes.items())
                    raise CheckFailure(
                        f"with {how} {name!r} is {at_worst(tensor, expected)} with all classes at "
                        f"once, in {mode} mode; a loss that needs them all at once says "
                        "softmax_over_classes = False"
                    )
    return f"in {len(ways)} ways within {worst:.1e}"


def cosines_are_of_vectors(subject: Subject) -> str:
    """A cosine lies within ±1; the length of one class's weights leaves the other classes alone."""
    head = subject.build(dtype=torch.float64)
    weight = classifier_of(head)
    if weight is None:
        raise NotApplicable("the head has no class weights of shape (K, ..., D)")
    features, _ = subject.batch(dtype=torch.float64)
    others = logits_of(head, features)[:, 1:]
    with torch.no_grad():
        weight[0] *= 10
        longer = logits_of(head, features)[:, 1:]
        if isinstance(head, CosineHead):
            for sample in (*features[:2], *weight.flatten(0, -2)):
                largest = float(head.norms_and_cosines(sample[None])[1].abs().max())
                if not largest <= 1 + EXACT:
                    raise CheckFailure(f"a cosine is {largest:.6g}; allowed: at most 1")
    # Up to a shift and a scale, which no decision between the others feels.
    one, other = (directions(z - z.mean(dim=1, keepdim=True)) for z in (longer, others))
    if len(one.T) > 2 and not relative_difference(one, other) <= EXACT:
        raise CheckFailure(
            "class 0's weights ten times as long change the test logits of the other classes: "
            f"{at_worst(one, other)} before; normalised over the wrong axis"
        )
    return "no cosine beyond ±1" if isinstance(head, CosineHead) else "each of its own class"
