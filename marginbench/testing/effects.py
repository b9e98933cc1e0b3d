"""That every parameter of a head's constructor does something."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from marginbench.errors import UserError
from marginbench.heads import CosineHead, head_class
from marginbench.plugins.parameters import parameter_model
from marginbench.testing.check_in_modes import CheckFailure
from marginbench.testing.derivatives import mixed_batch
from marginbench.testing.margins import other_values
from marginbench.testing.observation import gradients, logits_of, loss_of
from marginbench.testing.subject import Subject, offered_choices

STEPS = 3
RATE = 0.05


def every_parameter_has_an_effect(subject: Subject) -> str:
    """On losses, gradients, test logits or diagnostics, alone or beside another that departs.

    The class names in ``without_effect`` those that have none.
    """
    kind = head_class(subject.name)
    fields, shared = (
        parameter_model(f"head {subject.name!r}", one).model_fields
        for one in (kind, kind.shared_parameters())
    )
    # From the defaults: given numbers may leave another without effect, as a factor of zero does.
    needed = {
        n: v for n, v in subject.parameters.items() if n in fields and fields[n].is_required()
    }
    bare = replace(subject, parameters=needed)
    subject = bare if bare.is_allowed() else subject
    own = {name: field.annotation for name, field in fields.items() if name not in shared}
    values = {name: _departures(subject, name, own[name]) for name in own}
    alone = [(name, value) for name in values for value in values[name]]
    trace = functools.cache(functools.partial(_trace, subject))
    # Of a margin whose slope is 1 the detached gradient is the exact one.
    left_out = (*kind.without_effect, *(["grad"] if issubclass(kind, CosineHead) else []))
    for name, value in ((n, v[0]) for n, v in values.items() if v and n not in left_out):
        besides = [(), *((other,) for other in alone if other[0] != name)]
        if all(
            _same(trace(*other), trace(*other, (name, departed)))
            for other in besides
            for departed in values[name]
        ):
            raise CheckFailure(
                f"the parameter {name!r} has no effect: losses, gradients, test logits and "
                f"diagnostics are the same with {value!r} as with {subject.resolved()[name]!r}; "
                "use it, or name it in without_effect"
            )
    return f"each has an effect: {', '.join(values) or 'none'}"


def _departures(subject: Subject, name: str, annotation: Any) -> list[Any]:
    own = subject.resolved().get(name)
    if isinstance(own, int | float) and not isinstance(own, bool):
        # The far ones for a limit, which other parameters reach only then.
        near, choices = other_values(subject, name), [type(own)(own * 1000), own + 1000]
    else:
        near, choices = [], offered_choices(annotation) or ([] if own is not None else [1, 2.0])
    found = [replace(subject, parameters={**subject.parameters, name: c}) for c in choices]
    far = [s.parameters[name] for s in found if s.parameters[name] != own and s.is_allowed()]
    return near + far


def _same(one: list[Tensor], other: list[Tensor]) -> bool:
    """Whether two traces are equal; what the head refuses shows nothing."""
    if not one or not other:
        return True
    return len(one) == len(other) and all(map(torch.equal, one, other))


def _trace(subject: Subject, *changes: tuple[str, Any]) -> list[Tensor]:
    """What is seen of a head over a few steps; nothing if it refuses these parameters."""
    try:
        head = subject.build(dtype=torch.float64, **dict(changes)).train()
    except UserError:
        return []
    seen = []
    for step in range(STEPS):
        features, labels = mixed_batch(subject, head, step)
        if head.needs_pairs:
            features = 0.02**step * features  # neighbours within any margin
        loss, found = gradients(head, features, labels)
        seen += [loss, found["features"], *head.diagnostics().values()]
        with torch.no_grad():
            for name, parameter in head.named_parameters():
                parameter.sub_(RATE * found.get(name, torch.zeros_like(parameter)))
    head.eval()
    return [*seen, loss_of(head, features, labels), logits_of(head, features)]
