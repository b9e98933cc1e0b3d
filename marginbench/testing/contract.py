"""The parts of the contract that are plain to state: signature, test logits, symmetry."""

from __future__ import annotations

import copy
import inspect

import torch

from marginbench.errors import UserError
from marginbench.heads import build_head, head_class
from marginbench.testing.check_in_modes import CheckFailure
from marginbench.testing.observation import EXACT, gradients, held_tensors, relative_difference
from marginbench.testing.subject import Subject

ROUNDING = 1e-5


def unknown_parameters_are_refused(subject: Subject) -> str:
    """A misspelt parameter is an error that names it, and every parameter can be set by name."""
    wrong = "no_such_parameter"
    try:
        build_head(subject.name, subject.in_features, subject.num_classes, **{wrong: 1})
    except UserError as error:
        if wrong not in str(error):
            raise CheckFailure(f"the refusal does not name the parameter: {error}") from None
    else:
        raise CheckFailure(f"the parameter {wrong!r} was swallowed without a word")
    signature = inspect.signature(head_class(subject.name).__init__).parameters
    for name, parameter in list(signature.items())[1:]:
        settable = parameter.kind is inspect.Parameter.KEYWORD_ONLY
        if not settable and name not in ("in_features", "num_classes"):
            raise CheckFailure(f"{name!r} is not keyword-only, so that no grid can set it")
    return f"refused by name; parameters: {', '.join(subject.resolved()) or 'none'}"


def logits_are_free_of_labels(subject: Subject) -> str:
    """``logits`` gives (N, K), the same whatever labels went before and whatever else is in the
    batch.
    """
    features, labels = subject.batch()
    shuffled = labels.roll(1)
    size = (len(labels), subject.num_classes)
    one, other = subject.build(), subject.build()
    with torch.no_grad():
        before = one.eval().logits(features)
        if before.shape != size:
            raise CheckFailure(f"the logits have shape {tuple(before.shape)}, not {size}")
        # Once as in a validation pass; then as after training steps, with equal state dicts.
        one(features, labels)
        difference = relative_difference(one.logits(features), before)
        one.train()(features, labels)
        other.train()(features, shuffled)
        other.load_state_dict(one.state_dict())
        after = one.eval().logits(features)
        difference = max(difference, relative_difference(other.eval().logits(features), after))
        if not difference <= 0:
            raise CheckFailure(
                f"the logits change by {difference:.2g} of their size with the labels of an "
                "earlier loss"
            )
        single = torch.cat([one.logits(row) for row in features.split(1)])
    difference = relative_difference(single, after)
    if not difference <= ROUNDING:
        raise CheckFailure(
            f"the logits of a sample change by {difference:.2g} of their size with the batch"
        )
    return f"{size}; unchanged by labels; one by one within {difference:.1e}"


def classes_are_interchangeable(subject: Subject) -> str:
    """Permuting the classes permutes the logits and leaves loss and gradient as they are."""
    head = subject.build(dtype=torch.float64)
    features, labels = subject.batch(dtype=torch.float64)
    order = torch.randperm(subject.num_classes, generator=torch.Generator().manual_seed(3))
    order = order.to(subject.device)
    permuted = copy.deepcopy(head)
    with torch.no_grad():
        for _, tensor in held_tensors(permuted):
            if tensor.dim() and tensor.shape[0] == subject.num_classes:
                tensor.copy_(tensor[order].clone())
    renamed = order.argsort()[labels]
    loss, found = gradients(head, features, labels)
    loss_permuted, found_permuted = gradients(permuted, features, renamed)
    with torch.no_grad():
        logits = head.eval().logits(features)
        logits_permuted = permuted.eval().logits(features)
    differences = {
        "the loss": relative_difference(loss_permuted, loss),
        "the features' gradient": relative_difference(
            found_permuted["features"], found["features"]
        ),
        "the test logits": relative_difference(logits_permuted, logits[:, order]),
    }
    for what, difference in differences.items():
        if not difference <= EXACT:
            raise CheckFailure(
                f"with the classes in another order {what} is off by {difference:.2g} of its size"
            )
    return f"largest relative difference {max(differences.values()):.1e}"
