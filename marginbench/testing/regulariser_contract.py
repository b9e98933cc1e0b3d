"""The contract of a regulariser, part by part."""

from __future__ import annotations

import io
from collections.abc import Iterator

import torch
from torch import Tensor

from marginbench.errors import UserError
from marginbench.regularisers import LayerShape, Regulariser
from marginbench.testing.check_in_modes import CheckFailure, NotApplicable
from marginbench.testing.observation import EXACT, relative_difference, same_randomness
from marginbench.testing.regulariser_subject import RegulariserSubject, value_and_gradients

STEP = 1e-6
TOLERANCE = 1e-5
DIRECTIONS = 2
STEPS = 3


def unknown_parameters_are_refused(subject: RegulariserSubject) -> str:
    """A misspelt parameter is an error that names it."""
    wrong = "no_such_parameter"
    try:
        subject.build(changes={wrong: 1})
    except UserError as error:
        if wrong not in str(error):
            raise CheckFailure(f"the refusal does not name the parameter: {error}") from None
        return "refused by name"
    raise CheckFailure(f"the parameter {wrong!r} was swallowed without a word")


def value_is_one_number(subject: RegulariserSubject) -> str:
    """A finite scalar, the same from call to call and from build to build; filters unchanged."""
    regulariser, filters = subject.build(), subject.filters()
    before = [one.detach().clone() for one in filters]
    value = regulariser(filters)
    penalties = [regulariser.penalty(one, layer) for layer, one in enumerate(filters)]
    for one in (value, *penalties):
        if one.shape != () or not one.isfinite():
            raise CheckFailure(f"the value is {one.tolist()}; allowed: a finite scalar")
    for again in (regulariser(filters), subject.build()(filters)):
        if not torch.equal(value, again):
            raise CheckFailure(f"the same filters give {value:.9g}, then {again:.9g}")
    with torch.no_grad():
        regulariser.renew([one.detach() for one in filters], 0)
    if not all(torch.equal(*pair) for pair in zip(before, filters, strict=True)):
        raise CheckFailure("it changes the filters that it is given")
    if any(parameter.requires_grad for parameter in regulariser.parameters()):
        raise CheckFailure("it has a parameter, which no optimiser trains: make it a buffer")
    return f"{float(value.detach()):.4g}, equal to the bit each time"


def layers_have_their_shares(subject: RegulariserSubject) -> str:
    """The value is linear in λ; ``classifier_weight=0`` leaves the class weights alone."""
    filters = subject.filters(torch.float64)
    shares = {"weight": 1.0, "classifier_weight": 1.0}
    one = subject.build(torch.float64, shares)(filters)
    for changes in ({"weight": 3.0, "classifier_weight": 3.0}, {"weight": 3.0}):
        more = subject.build(torch.float64, {**shares, **changes})(filters)
        alone = [
            subject.build(torch.float64, {**dict.fromkeys(shares, 0.0), name: 1.0})(filters)
            for name in shares
        ]
        expected = sum(
            share * {**shares, **changes}[name] for share, name in zip(alone, shares, strict=True)
        )
        if not relative_difference(more, torch.as_tensor(expected)) <= EXACT:
            raise CheckFailure(
                f"with {changes} the value is {more.item():.6g}, and λ times the penalties is "
                f"{torch.as_tensor(expected).item():.6g}"
            )
    hidden = subject.build(torch.float64, {"weight": 1.0, "classifier_weight": 0.0})
    if value_and_gradients(hidden, filters)[1][-1].any():
        raise CheckFailure("classifier_weight=0 leaves a gradient on the class weights")
    return f"linear in both; {one.item():.4g} at 1"


def gradients_match_finite_differences(subject: RegulariserSubject) -> str:
    """In float64, along random directions in each layer."""
    regulariser, filters = subject.build(torch.float64), subject.filters(torch.float64)
    _, found = value_and_gradients(regulariser, filters)
    generator, worst = torch.Generator().manual_seed(7), 0.0
    for number, gradient in enumerate(found):
        for _ in range(DIRECTIONS):
            shift = torch.randn(gradient.shape, generator=generator, dtype=torch.float64)
            shift = (STEP * shift / shift.norm()).to(gradient.device)
            with torch.no_grad():
                ahead, behind = (
                    regulariser([*filters[:number], filters[number] + s, *filters[number + 1 :]])
                    for s in (shift, -shift)
                )
            slope = float(ahead - behind) / (2 * STEP)
            size = max(float(gradient.norm()), 1e-3)
            worst = max(worst, abs(slope - float((gradient * shift).sum()) / STEP) / size)
        if not worst <= TOLERANCE:
            name = regulariser.layers[number].name
            raise CheckFailure(
                f"the gradient for the layer {name!r} is off by {worst:.2g} of its size (allowed "
                f"{TOLERANCE:g})"
            )
    if not any(gradient.any() for gradient in found):
        raise CheckFailure("no gradient reaches the filters")
    return f"largest relative deviation {worst:.1e}"


def scale_does_not_count(subject: RegulariserSubject) -> str:
    """Where declared: the value stays when each filter is multiplied by a positive number."""
    regulariser, filters = subject.build(torch.float64), subject.filters(torch.float64)
    if not regulariser.scale_invariant:
        raise NotApplicable("it does not declare scale_invariant")
    with torch.no_grad():
        value = regulariser(filters)
        scaled = [
            one * torch.linspace(0.1, 10, len(one), dtype=one.dtype, device=one.device)[:, None]
            for one in filters
        ]
        difference = relative_difference(regulariser(scaled), value)
    if not difference <= EXACT:
        raise CheckFailure(
            f"with the filters of other lengths the value is off by {difference:.2g} of its size, "
            "and scale_invariant is declared"
        )
    return f"relative difference {difference:.1e}"


def finite_at_edges(subject: RegulariserSubject) -> str:
    """Value and gradient are finite, before and after a renewal, at filters that are odd."""
    count = 0
    for name, rows in _edges():
        layers = [
            LayerShape("edge", len(rows), rows.shape[1]),
            LayerShape("classifier", len(rows), rows.shape[1], is_classifier=True),
        ]
        regulariser = subject.build(layers=layers)
        filters = [rows.clone().to(subject.device).requires_grad_() for _ in layers]
        for when in ("", ", after renew()"):
            value, found = value_and_gradients(regulariser, filters)
            if not value.isfinite():
                raise CheckFailure(f"{name}{when}: the value is {value.item()}")
            if not all(gradient.isfinite().all() for gradient in found):
                raise CheckFailure(f"{name}{when}: the gradient is not finite")
            with torch.no_grad(), same_randomness():
                regulariser.renew([one.detach() for one in filters], 0)
        count += 1
    return f"{count} edges"


def _edges() -> Iterator[tuple[str, Tensor]]:
    rows = torch.randn(4, 6, generator=torch.Generator().manual_seed(5))
    yield "one filter", rows[:1]
    yield "one filter of one dimension", rows[:1, :1]
    yield "filters of one dimension", rows[:, :1]
    yield "one zero filter", torch.cat([0 * rows[:1], rows[1:]])
    yield "one filter, zero", 0 * rows[:1]
    yield "zero filters only", 0 * rows
    yield "equal filters", rows[:1].repeat(4, 1)
    yield "opposite filters", torch.cat([rows, -rows])
    yield "nearly equal filters", rows[:1] + 1e-6 * rows
    yield "orthonormal filters", torch.eye(4, 6)
    yield "filters of length 1e-15", 1e-15 * rows
    yield "filters of length 1e5", 1e5 * rows


def state_survives_a_checkpoint(subject: RegulariserSubject) -> str:
    """Saved in the middle of training and loaded into another, it goes on just the same."""
    filters = subject.filters()
    first = subject.build()
    places = {name: buffer.data_ptr() for name, buffer in first.named_buffers()}
    for iteration in range(STEPS):
        _renew(first, filters, iteration)
    moved = [name for name, buffer in first.named_buffers() if buffer.data_ptr() != places[name]]
    if moved:
        raise CheckFailure(f"renew() replaces the buffer {moved[0]!r}; it must change it in place")
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = subject.build()
    second.load_state_dict(torch.load(file, weights_only=True, map_location=subject.device))
    for iteration in range(STEPS, 2 * STEPS):
        values = []
        for one in (first, second):
            _renew(one, filters, iteration)
            values.append(one(filters))
        if not torch.equal(*values):
            raise CheckFailure(
                f"{iteration - STEPS + 1} steps after loading, the value is {values[1]:.9g} where "
                f"it was {values[0]:.9g}: some state is not in state_dict()"
            )
    return f"{STEPS} values after loading equal to the bit; saved: " + (
        ", ".join(first.state_dict()) or "nothing"
    )


def _renew(regulariser: Regulariser, filters: list[Tensor], iteration: int) -> None:
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(iteration)
        regulariser.renew([one.detach() for one in filters], iteration)
