"""What a margin is: off in the test logits, never to a sample's advantage, and not ignored."""

from __future__ import annotations

import copy
import re
from typing import Any

import torch
from torch import Tensor

from marginbench.errors import UserError
from marginbench.heads import Head, WithoutMargin, head_class
from marginbench.heads.cosine import CosineHead
from marginbench.testing.check_in_modes import CheckFailure, NotApplicable
from marginbench.testing.observation import (
    EXACT,
    at_worst,
    classifier_of,
    directions,
    logits_of,
    loss_of,
    relative_difference,
)
from marginbench.testing.subject import OTHER_SIZES, Subject
from marginbench.testing.without_margin import values_in_words

MARGIN_NAMES = re.compile(r"(.*_)?(m\d*|margin)(_.*)?")
"""The names by which a parameter is known to be a margin where ``without_margin`` names none."""
ANGLES = torch.linspace(0.05, 3.05, 13).tolist()
SMALL = 0.01
"""The share of a margin at which its sign is tested at every angle."""


def margin_is_off_in_test_logits(subject: Subject) -> str:
    """The margin enters the loss, and not the test logits.

    A margin is a number that ``without_margin`` names, or a parameter called m, m1, l_m, margin
    and the like.
    """
    head = subject.build(dtype=torch.float64)
    _logits_are_not_those_of_psi(head, subject.batch(dtype=torch.float64)[0])
    values = {name: other_values(subject, name) for name in margin_names(subject)}
    if not values:
        raise NotApplicable("the head has no parameter that is known as a margin")
    batches = [subject.batch(dtype=torch.float64)]
    if head.needs_pairs:
        batches.append((0.02 * batches[0][0], batches[0][1]))  # neighbours within any margin
    if classifier_of(head) is not None:
        batches.append(subject.at_angles(head, ANGLES, norm=20.0))
    for name, others in values.items():
        effective = False
        for value in others:
            twin = subject.build(dtype=torch.float64, **{name: value})
            for features, labels in batches:
                losses = loss_of(head, features, labels), loss_of(twin, features, labels)
                effective = effective or not torch.equal(*losses)
                # What is learnt may start where the margin says.
                tested = copy.deepcopy(twin)
                for own, other in zip(tested.parameters(), head.parameters(), strict=True):
                    own.data.copy_(other.data)
                logits, with_other = logits_of(head, features), logits_of(tested, features)
                if not relative_difference(with_other, logits) <= EXACT:
                    raise CheckFailure(
                        "the margin is on in the test logits: one is "
                        f"{at_worst(with_other, logits)} before, with {name} = {value!r}"
                    )
        # Few samples may have no pair or triplet that counts.
        if not effective and others and not (head.needs_pairs and subject.mode == OTHER_SIZES):
            raise CheckFailure(f"the margin {name} has no effect on the loss")
    return f"logits free of {', '.join(values)}, the loss is not"


def _logits_are_not_those_of_psi(head: Head, features: Tensor) -> None:
    if not isinstance(head, CosineHead):
        return
    with torch.no_grad():
        cosine = head.norms_and_cosines(features)[1]
        margined = directions(head.psi(cosine))
    logits = directions(logits_of(head, features))
    same = relative_difference(logits, margined) <= EXACT
    if same and relative_difference(directions(cosine), margined) > EXACT:
        raise CheckFailure(
            "the margin is on in the test logits: they are ψ of every class's cosine"
        )


def margin_is_to_no_samples_advantage(subject: Subject) -> str:
    """The loss of a sample is never lower than it is without the margin.

    A margin of a hundredth is tested at all angles; the margin itself as far as the head's ψ, if
    it has one, falls: cos(θ + m) for one may rise again beyond θ = π − m. Of a cosine head that
    declares no ``without_margin``, ψ lies below cos θ in the mean up to θ = π/2.
    """
    declaration = head_class(subject.name).without_margin
    if declaration is None:
        return _psi_lies_below_the_cosine(subject.build(dtype=torch.float64))
    declared, margins = _declared_margins(subject, declaration)
    plain = subject.build(dtype=torch.float64, **declared)
    own = subject.resolved()
    full = {name: own[name] for name in margins}
    small = {name: declared[name] + SMALL * (own[name] - declared[name]) for name in margins}
    tried = [(full, True)]
    if all(isinstance(value, float) for value in full.values()):
        tried.append((small, False))
    angles = [angle for angle in ANGLES if classifier_of(plain) is not None]
    if angles and not plain.needs_pairs:
        features, labels = subject.at_angles(plain, angles, norm=20.0)
    else:
        features, labels = subject.batch(dtype=torch.float64)
    count = 0
    for values, falling_only in tried:
        head = subject.build(dtype=torch.float64, **{**declared, **values})
        batches = (
            [slice(None)] if head.needs_pairs else [slice(i, i + 1) for i in range(len(labels))]
        )
        last = _end_of_fall(head) if falling_only else torch.pi
        for i, part in enumerate(batches):
            angle = angles[i] if angles and not head.needs_pairs else 0.0
            if angle > last:
                break
            batch = features[part], labels[part]
            margined, without = float(loss_of(head, *batch)), float(loss_of(plain, *batch))
            count += 1
            if not margined >= without - EXACT * max(1.0, abs(without)):
                where = f" at the angle {angle:.3g} to the own class" if angle else ""
                raise CheckFailure(
                    f"the margin lowers the loss: {margined:.6g} with {values_in_words(values)}, "
                    f"{without:.6g} without{where}"
                )
    return f"{count} losses with {', '.join(margins)}, none below that without"


def _psi_lies_below_the_cosine(head: Head) -> str:
    if not isinstance(head, CosineHead):
        raise NotApplicable("the head declares no without_margin")
    cosine = torch.linspace(0, torch.pi / 2, 181, dtype=torch.float64).cos()
    with torch.no_grad():
        above = float((head.psi(cosine.to(head.weight.device)).cpu() - cosine).mean())
    if not above <= EXACT:
        raise CheckFailure(
            f"the margin lowers the loss: up to π/2 ψ lies above cos θ, by {above:.3g} in the "
            "mean; where that is meant, declare without_margin"
        )
    return f"up to π/2 ψ lies below cos θ, by {-above:.3g} in the mean"


def margin_names(subject: Subject) -> list[str]:
    """The parameters that are margins: numbers, by declaration or by name."""
    declared = head_class(subject.name).without_margin
    known = set(declared.parameters) - set(declared.head_parameters) if declared else set()
    return [
        name
        for name, value in subject.resolved().items()
        if _is_number(value)
        and (name in known or MARGIN_NAMES.fullmatch(name))
        and _keeps_shapes(subject, name)
    ]


def _declared_margins(
    subject: Subject, declared: WithoutMargin
) -> tuple[dict[str, Any], list[str]]:
    """What ``without_margin`` sets, and which of it are margins.

    Not those that the other head has too (the scale), are no numbers, or change a shape.
    """
    parameters = dict(declared.parameters)
    own = subject.resolved()
    margins = [
        name
        for name in set(parameters) - set(declared.head_parameters)
        if _is_number(parameters[name]) and _is_number(own[name]) and _keeps_shapes(subject, name)
    ]
    if not margins:
        raise NotApplicable("without_margin names no margin that is a number")
    return parameters, sorted(margins)


def _keeps_shapes(subject: Subject, name: str) -> bool:
    """Whether the parameters keep their shapes when one that should be a margin is another."""
    shapes = [p.shape for p in subject.build().parameters()]
    others = [subject.build(**{name: value}) for value in other_values(subject, name)]
    return all([p.shape for p in other.parameters()] == shapes for other in others)


def other_values(subject: Subject, name: str) -> list[Any]:
    """Values beside a parameter's own that the head takes."""
    own = subject.resolved()[name]
    found: list[Any] = []
    kind = type(own)
    for value in (kind(own * 2), kind(own / 2), own + 1):
        if len(found) == 2:
            break
        try:
            subject.build(**{name: value})
        except UserError:
            continue
        if value != own:
            found.append(value)
    return found


def _end_of_fall(head: Head) -> float:
    """The angle up to which ψ falls all the way; π for a head without ψ."""
    psi = getattr(head, "psi", None)
    if psi is None:
        return torch.pi
    angles = torch.linspace(0, torch.pi, 721, dtype=torch.float64)
    with torch.no_grad():
        values: Tensor = psi(angles.cos().to(next(head.parameters()).device)).cpu()
    rises = (values.diff() > EXACT).nonzero()
    return float(angles[rises[0, 0]]) if len(rises) else torch.pi


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
