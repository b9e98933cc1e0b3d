"""From a suite's cells to its searches: for every head in every setting, the same number of trials.

Points are drawn ahead, and none depends on a result, so that trials are cells like any others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from marginbench.errors import UserError
from marginbench.experiments.cell_fields import Optimiser
from marginbench.experiments.cells import Cell
from marginbench.experiments.grids import EVERY_OTHER_HEAD
from marginbench.experiments.head_search import HeadSearch, Trial, own_value
from marginbench.experiments.resolution import Resolver
from marginbench.experiments.search import Search, sobol_points
from marginbench.experiments.search_data import (
    KnownData,
    seeds_by_repeat,
    trial_seeds,
    validated_data,
)
from marginbench.experiments.suites import Suite
from marginbench.plugins.allowed_values import refusal
from marginbench.plugins.component import Component
from marginbench.plugins.parameters import parameter_model
from marginbench.plugins.registrations import check_known
from marginbench.plugins.search_ranges import Choice, Range, range_as_json
from marginbench.text import quoted


def plan_searches(
    cells: Sequence[Cell], search: Search, resolver: Resolver, *, trials: int, repeats: int | None
) -> list[HeadSearch]:
    """The searches of a suite, setting by setting, head by head, repeat by repeat.

    Heads count by name: of several cells of one head the first gives the parameters that the
    search begins with.

    Args:
        cells: the suite's, resolved.
        search: what the suite says of it.
        resolver: for the cells of trials.
        trials: for every head.
        repeats: so many searches, each with a final run of its own seed; 1: one search, whose
            choice is run with every seed; None: 1, or with splits per seed as many as seeds.

    Raises:
        UserError: data that hold nothing out, a setting or a head that is not there, a range that
            is not allowed, or repeats that do not go with the seeds.
    """
    if trials < 1:
        raise UserError(f"trials = {trials} is not allowed; allowed: 1 or more")
    _check_settings(cells, search)
    found: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        if search.settings is None or cell.setting in search.settings:
            found.setdefault((cell.comparison, cell.head.name), []).append(cell)
    known = KnownData()
    searches = []
    for own in found.values():
        first = own[0]
        facts = known.of(first.data)
        by = search.by or ("error" if facts.tests_images and not facts.is_open else "verification")
        declares, ranges = _space(first, search, facts.classes)
        _check_ends(first, ranges, search, resolver)
        seeds = [cell.seed for cell in own if cell.head == first.head]
        for repeat, final_seeds in enumerate(seeds_by_repeat(first, search, seeds, repeats)):
            searches.append(
                HeadSearch(
                    head=first.head.name,
                    comparison=first.comparison,
                    repeat=repeat,
                    by=by,
                    declares=declares,
                    ranges={name: range_as_json(drawn) for name, drawn in ranges.items()},
                    base=first,
                    data=validated_data(first, search, by, repeat, resolver, facts),
                    schedule=search.shortened(first.schedule),
                    trial_seeds=trial_seeds(first, search, repeat, final_seeds),
                    final_seeds=final_seeds,
                    finalists=_finalists(search, trials),
                    trials=tuple(
                        _trial(first, values, search, resolver)
                        for values in _points(first, ranges, trials, repeat)
                    ),
                )
            )
    return searches


def _finalists(search: Search, trials: int) -> int | None:
    """Of as many trials as finalists, or fewer, all have every seed at once."""
    if search.finalists is None or search.finalists >= trials:
        return None
    return search.finalists


def _points(
    base: Cell, ranges: Mapping[str, Range], trials: int, repeat: int
) -> list[dict[str, Any]]:
    """The values of each trial: the suite's own, then those drawn."""
    positions = sobol_points(len(ranges), trials - 1, base.head.name, repeat) if ranges else []
    points = [{name: own_value(base, name) for name in ranges}]
    for point in positions:
        values = zip(ranges.items(), point, strict=True)
        points.append(
            {n: drawn.at(position, own_value(base, n)) for (n, drawn), position in values}
        )
    return points


def _trial(base: Cell, values: dict[str, Any], search: Search, resolver: Resolver) -> Trial:
    from marginbench.heads import head_class

    parts: dict[str, dict[str, Any]] = {"optimiser": {}, "head": {}}
    for name, value in values.items():
        owner, _, field = name.partition(".")
        parts[owner][field] = value
    parameters = {**base.head.parameters, **parts["head"]}
    short = dict(parameters)
    # A head that derives from another need not have its parameters.
    for name in parameters.keys() & set(head_class(base.head.name).per_iteration):
        short[name] = parameters[name] / search.length

    def resolved(given: dict[str, Any]) -> Component:
        head = Component(name=base.head.name, parameters=given)
        return resolver(base.model_copy(update={"head": head})).head

    try:
        optimiser = Optimiser.model_validate({**base.optimiser.model_dump(), **parts["optimiser"]})
    except ValidationError as error:
        raise UserError(refusal("search: shared", Optimiser, error)) from None
    return Trial(
        values=values,
        optimiser=optimiser,
        head=resolved(parameters),
        short_head=resolved(short),
    )


def _check_ends(
    base: Cell, ranges: Mapping[str, Range], search: Search, resolver: Resolver
) -> None:
    """Make sure that a parameter may have every value that it can be given.

    Raises:
        UserError: an end of a range, or a choice, that is not allowed.
    """
    for name, drawn in ranges.items():
        values = drawn.values if isinstance(drawn, Choice) else drawn.ends(own_value(base, name))
        for value in values:
            try:
                _trial(base, {name: value}, search, resolver)
            except UserError as error:
                raise UserError(f"search: {drawn.text}: {error}") from None


def _space(base: Cell, search: Search, classes: int) -> tuple[bool, dict[str, Range]]:
    """Whether the head declares what is searched of its own, and the ranges by name.

    Raises:
        UserError: a parameter that the head does not have, or a range that is none.
    """
    from marginbench.heads import head_class

    head = base.head.name
    model = parameter_model(f"head {head!r}", head_class(head))
    owner = f"head {head!r}: its search space"
    try:
        declared = head_class(head).search_space(classes)
    except UserError as error:
        raise UserError(f"{owner}: {error}") from None
    ranges = search.ranges(head, declared)
    for name in ranges:
        part, _, field = name.partition(".")
        if part == "head" and field not in model.model_fields:
            allowed = ", ".join(model.model_fields) or "none"
            raise UserError(f"{owner} has {field!r}; its parameters: {allowed}")
    return declared is not None, {
        name: drawn for name, drawn in ranges.items() if _has_effect(base, name, drawn)
    }


def _has_effect(base: Cell, name: str, drawn: Range) -> bool:
    """Whether searching a parameter changes anything."""
    if drawn.needs and not base.head.parameters.get(drawn.needs):
        return False
    return not (getattr(drawn, "relative", False) and not own_value(base, name))


def _check_settings(cells: Sequence[Cell], search: Search) -> None:
    there = list(dict.fromkeys(cell.setting for cell in cells))
    for setting in search.settings or ():
        if setting not in there:
            raise UserError(
                f"search: settings = {quoted(setting)} is not allowed; allowed: "
                + ", ".join(map(repr, there))
            )


def check_search_heads(suite: Suite, cells: list[Cell]) -> None:
    """Make sure that the heads whose ranges a suite changes are among its own, of whatever size.

    Args:
        suite: which changes them.
        cells: its own.

    Raises:
        UserError: one is not.
    """
    there = list(dict.fromkeys([cell.head.name for cell in (*cells, *suite.cells(1))]))
    for head in suite.search.heads:
        if EVERY_OTHER_HEAD in there:
            check_known("head", head)
        elif head not in there:
            raise UserError(
                f"search: heads = {quoted(head)} is not allowed; allowed: one of its heads: "
                + ", ".join(there)
            )
