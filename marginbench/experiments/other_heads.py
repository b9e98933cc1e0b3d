""" "*" in a suite: every registered head that the suite does not name itself."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from pydantic import BaseModel

from marginbench.errors import UserError
from marginbench.experiments.cells import Cell
from marginbench.experiments.grids import EVERY_OTHER_HEAD
from marginbench.plugins.component import Component
from marginbench.plugins.parameters import parameter_model, resolve_with


def with_other_heads(cells: list[Cell], light: bool = False) -> list[Cell]:
    """The cells, with each cell of the head "*" replaced by one of every other head that fits.

    Other: not named in the same comparison. Fits: its parameters allow the suggested values. A
    suggested parameter goes to the heads that have one of that name (``s`` to those with a
    scale, say); a head with a required parameter, or for which a suggestion is not allowed, is
    left out.

    Args:
        cells: as declared.
        light: whether to read the heads off their source, without torch.
    """
    if not any(cell.head.name == EVERY_OTHER_HEAD for cell in cells):
        return cells
    models = _models(light)
    named: dict[str, set[str]] = {}
    for cell in cells:
        named.setdefault(cell.comparison, set()).add(cell.head.name)
    expanded: list[Cell] = []
    for cell in cells:
        if cell.head.name != EVERY_OTHER_HEAD:
            expanded.append(cell)
            continue
        for name, model in models.items():
            head = _suggested(name, model, cell.head)
            if name not in named[cell.comparison] and head is not None:
                expanded.append(cell.model_copy(update={"head": head}))
    return expanded


def _models(light: bool) -> Mapping[str, type[BaseModel]]:
    """The parameters of every registered head, by its name, sorted."""
    if light:
        from marginbench.experiments.static_catalog import parameter_models
        from marginbench.plugins.source_modules import NotStatic

        with contextlib.suppress(NotStatic):
            return dict(sorted(parameter_models("head").items()))
    from marginbench.heads import head_class, head_names

    return {name: parameter_model(f"head {name!r}", head_class(name)) for name in head_names()}


def _suggested(name: str, model: type[BaseModel], wildcard: Component) -> Component | None:
    """The head with the wildcard's parameters that it has; None if it does not fit."""
    values = {key: v for key, v in wildcard.parameters.items() if key in model.model_fields}
    try:
        resolve_with(f"head {name!r}", model, values)
    except UserError:
        return None
    return Component(name=name, parameters=values)
