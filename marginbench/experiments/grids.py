"""Grids: how the cells of a comparison are declared. Nothing here imports torch."""

from __future__ import annotations

import ast
import itertools
from typing import Any

from marginbench.errors import UserError
from marginbench.experiments.cells import FUSED, Cell, make_cell
from marginbench.plugins.component import Component
from marginbench.text import quoted


def component(name: str, /, **parameters: Any) -> Component:
    """A named part of a cell: ``component("l-softmax", m=2)``."""
    return Component(name=name, parameters=parameters)


EVERY_OTHER_HEAD = "*"


def every_other_head(**suggested: Any) -> Component:
    """Stands for every registered head that the comparison does not name itself.

    Args:
        suggested: parameters, each for the heads that have one of that name; a head that does not
            allow the suggestion, or that needs more, is left out.
    """
    return Component(name=EVERY_OTHER_HEAD, parameters=suggested)


FAMILY = "pml:"
"""Of the heads that are another library's losses; a name in a shell may begin with it."""


def parse_component(text: str) -> Component:
    """A component as typed in a shell: ``arcface`` or ``arcface:m=0.3,s=10``.

    A loss of pytorch-metric-learning keeps its family: ``pml:ProxyAnchorLoss:margin=0.2``.

    Raises:
        UserError: the text has another form, or gives a parameter twice.
    """
    family = FAMILY if text.startswith(FAMILY) else ""
    name, _, rest = text.removeprefix(family).partition(":")
    name = family + name
    parameters = {}
    for part in rest.split(",") if rest else []:
        parameter, equals, value = part.partition("=")
        if not (equals and parameter.strip() and value.strip()):
            raise UserError(
                f"{quoted(text)} is not allowed; allowed: NAME or "
                "NAME:PARAMETER=VALUE,PARAMETER=VALUE"
            )
        if parameter.strip() in parameters:
            raise UserError(
                f"{quoted(text)} is not allowed: it gives {quoted(parameter.strip())} twice; "
                "allowed: each parameter once"
            )
        try:
            parameters[parameter.strip()] = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            parameters[parameter.strip()] = value.strip()
    return Component(name=name.strip(), parameters=parameters)


def grid(**choices: Any) -> list[Cell]:
    """The product of choices as cells.

    Each argument is a field of :class:`Cell`; a list stands for several values.
    A text stands for a component without parameters. ``execution`` is "fused" unless it is given;
    cells that are not made by ``grid`` are "eager" unless they say otherwise.

    Example:
        >>> grid(
        ...     data="digits",
        ...     backbone="small",
        ...     head=["softmax", component("l-softmax", m=2)],
        ...     schedule=Schedule(iterations=400, batch_size=64),
        ...     seed=[0, 1, 2],
        ... )  # 6 cells, seeds fastest

    Raises:
        UserError: a field that is missing, unknown or not allowed.
    """
    choices = {"execution": FUSED, **choices}
    names = list(choices)
    options = [value if isinstance(value, list) else [value] for value in choices.values()]
    return [
        make_cell(
            **{name: _as_component(name, value) for name, value in zip(names, row, strict=True)}
        )
        for row in itertools.product(*options)
    ]


def _as_component(field: str, value: Any) -> Any:
    if field in ("data", "backbone", "head", "regulariser") and isinstance(value, str):
        return Component(name=value)
    return value
