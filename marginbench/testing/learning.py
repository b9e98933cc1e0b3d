"""That the test logits are those of what was trained."""

from __future__ import annotations

import torch
from torch import Tensor

from marginbench.heads import Head
from marginbench.testing.check_in_modes import CheckFailure
from marginbench.testing.observation import (
    classifier_of,
    directions,
    gradients,
    logits_of,
    loss_of,
    relative_difference,
    same_randomness,
)
from marginbench.testing.subject import Subject

STEPS = 50
LEARNING_RATE = 0.05
UNCHANGED = 1e-9


def logits_come_from_what_is_trained(subject: Subject) -> str:
    """The parameters behind the test logits are those behind the loss, normalised alike."""
    head = subject.build(dtype=torch.float64).train()
    features, labels = subject.batch(dtype=torch.float64)
    trained, tested = [], []
    for name, _ in head.named_parameters():
        changed = _with_noise(subject, name).train()
        if not torch.equal(loss_of(changed, features, labels), loss_of(head, features, labels)):
            trained.append(name)
        if not torch.equal(logits_of(changed, features), logits_of(head, features)):
            tested.append(name)
    inert = [n for n, _ in head.named_parameters() if n not in (*trained, *tested)]
    if inert:
        raise CheckFailure(f"neither the loss nor the test logits depend on {_names(inert)}")
    idle = [name for name in tested if name not in trained]
    if idle:
        raise CheckFailure(f"the test logits depend on {_names(idle)}, which the loss does not use")
    if not tested:
        raise CheckFailure(f"the test logits depend on no parameter; trained are {_names(trained)}")
    others = torch.randn(features.shape, generator=torch.Generator().manual_seed(4))
    _same_scales_count(head, features, others.to(features), labels)
    return f"trained: {_names(trained)}; behind the test logits: {_names(tested)}"


def _with_noise(subject: Subject, name: str) -> Head:
    head = subject.build(dtype=torch.float64)
    with torch.no_grad():
        parameter = head.get_parameter(name)
        generator = torch.Generator().manual_seed(11)
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.add_(0.3 * noise.to(parameter.device))
    return head


def _same_scales_count(head: Head, features: Tensor, others: Tensor, labels: Tensor) -> None:
    """If the loss does not feel the length of a vector, the class that is chosen must not.

    If the test logits do not feel the length of class weights, the loss may: by a term of the
    weights, the same with other features.
    """
    weight = classifier_of(head)
    loss, logits = loss_of(head, features, labels), logits_of(head, features)
    if weight is not None:
        factors = torch.linspace(0.5, 2, len(weight)).to(weight)
        with torch.no_grad():
            kept = weight.clone()
            weight.mul_(factors.view(-1, *[1] * (weight.dim() - 1)))
            longer = [loss_of(head, one, labels) for one in (features, others)]
            in_loss = relative_difference(longer[0], loss)
            in_logits = relative_difference(logits_of(head, features), logits)
            weight.copy_(kept)
        change = longer[0] - loss, longer[1] - loss_of(head, others, labels)
        alike = in_logits <= UNCHANGED and relative_difference(*change) <= UNCHANGED
        if (in_loss <= UNCHANGED) != (in_logits <= UNCHANGED) and not alike:
            normalised, other = ("loss", "test logits")[:: 1 if in_loss <= UNCHANGED else -1]
            raise CheckFailure(
                f"class weights of another length do not change the {normalised}, but they change "
                f"the {other}: normalised in one and not in the other"
            )
    lengths = torch.linspace(0.5, 2, len(features)).to(features)[:, None]
    in_loss = relative_difference(loss_of(head, features * lengths, labels), loss)
    scaled = directions(logits_of(head, features * lengths))
    if in_loss <= UNCHANGED and not relative_difference(scaled, directions(logits)) <= UNCHANGED:
        raise CheckFailure(
            "features of another length do not change the loss, but they change the test logits by "
            "more than a scale: normalised in training and not in testing"
        )


def learns_separable_classes(subject: Subject) -> str:
    """Fifty steps on separable classes leave no error by the test logits.

    A margin so large that its ψ is flat or rises at wide angles need not learn from a random
    start: it gets another, with each class weight near its class. Samples whose gradient is zero
    from the start (of a class with weight zero) do not count.
    """
    size = max(subject.in_features, subject.num_classes)
    generator = torch.Generator().manual_seed(2)
    labels = torch.arange(2 * subject.num_classes) % subject.num_classes
    noise = torch.randn(len(labels), size, generator=generator)
    features = (5 * torch.eye(size)[labels] + 0.3 * noise).to(subject.device)
    labels = labels.to(subject.device)
    head = subject.build(in_features=size).train()
    wrong = _errors_after_training(head, features, labels)
    start = ""
    if wrong and classifier_of(head) is not None:
        head, start = subject.build(in_features=size).train(), ", from a start near them"
        _start_near_the_classes(head)
        wrong = _errors_after_training(head, features, labels)
    if wrong:
        raise CheckFailure(
            f"after {STEPS} steps on separable classes{start} the test logits choose the wrong "
            f"class for {wrong} of {len(labels)} training samples"
        )
    return f"no error on {len(labels)} samples after {STEPS} steps{start}"


def _start_near_the_classes(head: Head) -> None:
    weight = classifier_of(head)
    assert weight is not None
    with torch.no_grad():
        lengths = weight.norm(dim=-1, keepdim=True)
        towards = torch.eye(head.num_classes, head.in_features).to(weight)
        towards = towards.view(head.num_classes, *[1] * (weight.dim() - 2), -1)
        weight.copy_(lengths * (towards + 0.3 * weight / lengths))


def _errors_after_training(head: Head, features: Tensor, labels: Tensor) -> int:
    counts = gradients(head, features, labels)[1]["features"].any(dim=1)
    parameters = [parameter for parameter in head.parameters() if parameter.requires_grad]
    with same_randomness():
        for _ in range(STEPS):
            loss = head(features, labels)
            found = torch.autograd.grad(loss, parameters, allow_unused=True)
            # By the sign: the same length of step whatever the scale of the loss.
            with torch.no_grad():
                for parameter, gradient in zip(parameters, found, strict=True):
                    if gradient is not None:
                        parameter.sub_(LEARNING_RATE * gradient.sign())
    with torch.no_grad():
        wrong = head.eval().logits(features).argmax(dim=1) != labels
    return int((wrong & counts).sum())


def _names(names: list[str]) -> str:
    return ", ".join(map(repr, names)) or "none"
