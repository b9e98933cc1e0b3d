"""Where a head declares ``without_margin``: whether it is the declared head."""

from __future__ import annotations

from typing import Any

import torch

from marginbench.heads import head_class
from marginbench.testing.check_in_modes import CheckFailure, NotApplicable
from marginbench.testing.observation import (
    EXACT,
    gradients,
    logits_of,
    random_in_training,
    relative_difference,
)
from marginbench.testing.subject import Subject


def without_margin_equals_the_declared_head(subject: Subject) -> str:
    """Where the head declares ``without_margin``: it is the other head, test logits included."""
    declared = head_class(subject.name).without_margin
    if declared is None:
        raise NotApplicable("the head declares no without_margin")
    head = subject.build(dtype=torch.float64, **declared.parameters)
    plain = Subject(
        declared.head,
        declared.head_parameters,
        subject.in_features,
        subject.num_classes,
        subject.device,
    ).build(dtype=torch.float64)
    own = dict(head.named_parameters())
    with torch.no_grad():
        for name, parameter in plain.named_parameters():
            if name not in own or own[name].numel() != parameter.numel():
                raise CheckFailure(f"{declared.head!r} has a parameter {name!r}, this head has not")
            parameter.copy_(own[name].view_as(parameter))
    features, labels = subject.batch(dtype=torch.float64)
    worst = 0.0
    for training in (True, False):
        head.train(training), plain.train(training)
        if training and random_in_training(head, features, labels):
            continue  # its random numbers are not the other head's
        loss, found = gradients(head, features, labels)
        plain_loss, plain_found = gradients(plain, features, labels)
        difference = max(
            relative_difference(loss, plain_loss),
            relative_difference(found["features"], plain_found["features"]),
        )
        if not difference <= EXACT:
            raise CheckFailure(
                f"with {values_in_words(declared.parameters)} the loss is "
                f"{float(loss):.9g}, that of {declared.head!r} {float(plain_loss):.9g}; "
                f"difference {difference:.2g}"
            )
        worst = max(worst, difference)
    difference = relative_difference(logits_of(head, features), logits_of(plain, features))
    if not difference <= EXACT:
        raise CheckFailure(
            f"with {values_in_words(declared.parameters)} the test logits are off by "
            f"{difference:.2g} of the size of those of {declared.head!r}"
        )
    return f"equals {declared.head} within {max(worst, difference):.1e}"


def values_in_words(values: Any) -> str:
    return ", ".join(f"{name} = {value!r}" for name, value in values.items())
