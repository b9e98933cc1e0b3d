""" "*" in a suite: every registered head that the suite does not name itself."""

from __future__ import annotations

from marginbench.cells import Cell, Component
from marginbench.errors import UserError
from marginbench.grids import EVERY_OTHER_HEAD
from marginbench.heads import head_class, head_names, resolve_head_parameters
from marginbench.parameters import parameter_model


def with_other_heads(cells: list[Cell]) -> list[Cell]:
    """The cells, with each cell of the head "*" replaced by one of every other head that fits.

    Other: not named in the same comparison. Fits: its parameters allow the suggested values. A
    suggested parameter goes to the heads that have one of that name (``s`` to those with a
    scale, say); a head with a required parameter, or for which a suggestion is not allowed, is
    left out.
    """
    if not any(cell.head.name == EVERY_OTHER_HEAD for cell in cells):
        return cells
    named: dict[str, set[str]] = {}
    for cell in cells:
        named.setdefault(cell.comparison, set()).add(cell.head.name)
    expanded: list[Cell] = []
    for cell in cells:
        if cell.head.name != EVERY_OTHER_HEAD:
            expanded.append(cell)
            continue
        for name in head_names():
            head = _suggested(name, cell.head)
            if name not in named[cell.comparison] and head is not None:
                expanded.append(cell.model_copy(update={"head": head}))
    return expanded


def _suggested(name: str, wildcard: Component) -> Component | None:
    """The head with the wildcard's parameters that it has; None if it does not fit."""
    own = parameter_model(f"head {name!r}", head_class(name)).model_fields
    values = {key: value for key, value in wildcard.parameters.items() if key in own}
    try:
        resolve_head_parameters(name, values)
    except UserError:
        return None
    return Component(name=name, parameters=values)
