"""From cells as declared to cells resolved: defaults filled in, values checked, "*" replaced.

"*" in a suite stands for every registered head that the suite does not name itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from marginbench.errors import UserError
from marginbench.experiments.cells import Cell, resolved_component
from marginbench.experiments.grids import EVERY_OTHER_HEAD
from marginbench.plugins.component import Component
from marginbench.plugins.parameters import parameter_model, resolve_with
from marginbench.plugins.registrations import KINDS, PARTS, load_known_plugin_files

Known = Mapping[str, list[dict[str, Any]]]


class Resolver:
    """Resolves cells, the same part only once; imports a part's room where it is not known yet.

    Args:
        known: what another resolver has found, see :meth:`found`.
    """

    def __init__(self, known: Known | None = None) -> None:
        self._known = {
            text: [Component.model_validate(value) for value in values]
            for text, values in (known or {}).items()
        }
        self._of_files: set[str] = set()

    def __call__(self, cell: Cell) -> Cell:
        """The same cell with the defaults of its parts filled in, all checked.

        A changed default thus changes the key, and a default spelt out does not. A head's rates
        per iteration that are None follow from the cell's iterations (``Head.per_iteration``).

        Raises:
            UserError: an unknown data source, backbone, head or regulariser, or a parameter that
                is not allowed.
        """
        parts = {field: getattr(cell, field) for field in PARTS}
        return cell.model_copy(
            update={
                field: self._resolved(field, part, cell.schedule.iterations)
                for field, part in parts.items()
                if part
            }
        )

    def with_other_heads(self, cells: list[Cell]) -> list[Cell]:
        """The cells, with each cell of the head "*" replaced by one of every other head that fits.

        Other: not named in the same comparison. Fits: its parameters allow the suggested values.
        A suggested parameter goes to the heads that have one of that name (``s`` to those with a
        scale, say); a head with a required parameter, or for which a suggestion is not allowed,
        is left out.

        Args:
            cells: as declared.
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
            for head in self._suggested(cell.head):
                if head.name not in named[cell.comparison]:
                    expanded.append(cell.model_copy(update={"head": head}))
        return expanded

    def found(self) -> dict[str, list[dict[str, Any]]]:
        """All parts resolved so far, as JSON values, for a resolver of another process.

        Left out: those whose parameters are completed from files, which may change.
        """
        return {
            text: [part.model_dump(mode="json") for part in parts]
            for text, parts in self._known.items()
            if text not in self._of_files
        }

    def _resolved(self, field: str, part: Component, iterations: int) -> Component:
        try:
            text = _as_text(field, part, iterations if field == "head" else None)
        except (TypeError, ValueError):
            # No value that a parameter may have, most likely: it is refused by name.
            return _resolve_by_import(field, part, iterations)[0]
        if not self._known.get(text):
            resolved, of_files = _resolve_by_import(field, part, iterations)
            self._known[text] = [resolved]
            if of_files:
                self._of_files.add(text)
        return self._known[text][0]

    def _suggested(self, wildcard: Component) -> list[Component]:
        text = _as_text("head", wildcard)
        if text not in self._known:
            self._known[text] = _every_head_that_fits(wildcard)
        return self._known[text]


def resolve_cell(cell: Cell) -> Cell:
    """A cell resolved on its own; see :class:`Resolver`.

    Raises:
        UserError: an unknown data source, backbone, head or regulariser, or a parameter that is
            not allowed.
    """
    return Resolver()(cell)


def _as_text(field: str, part: Component, iterations: int | None = None) -> str:
    """A part as declared, as one text; 4 and 4.0 differ, a tuple and a list do not."""
    values = [field, part.name, part.parameters, iterations]
    return json.dumps(values, sort_keys=True, allow_nan=False)


def _resolve_by_import(field: str, part: Component, iterations: int) -> tuple[Component, bool]:
    """A part resolved, and whether files complete its parameters."""
    load_known_plugin_files()
    # Imported here: cells are declared, and known ones resolved, without importing torch.
    from marginbench import backbones, data, heads, regularisers
    from marginbench.backbones.initial_weights import begins_with_weights
    from marginbench.experiments.weight_content import with_weight_content

    resolve_parameters, find = {
        "data": (data.resolve_data_parameters, data.data_source_function),
        "backbone": (backbones.resolve_backbone_parameters, backbones.backbone_function),
        "head": (heads.resolve_head_parameters, heads.head_class),
        "regulariser": (
            regularisers.resolve_regulariser_parameters,
            regularisers.regulariser_class,
        ),
    }[field]
    values = resolve_parameters(part.name, part.parameters)
    if field == "head":
        rates = heads.head_class(part.name).per_iteration
        for name, total in rates.items() if isinstance(rates, Mapping) else ():
            # A head that derives from another need not have its parameters.
            if name in values and values[name] is None:
                values[name] = total / iterations
    of_files = field == "data" and data.is_completed_from_files(part.name)
    if field == "backbone" and begins_with_weights(values):
        values, of_files = with_weight_content(part.name, values), True
    model = parameter_model(f"{KINDS[field].noun} {part.name!r}", find(part.name))
    return resolved_component(part.name, values, model), of_files


def _every_head_that_fits(wildcard: Component) -> list[Component]:
    """Every registered head with the wildcard's parameters that it has, sorted by name."""
    load_known_plugin_files()
    from marginbench.heads import head_class, head_names

    heads = []
    for name in sorted(head_names()):
        model: type[BaseModel] = parameter_model(f"head {name!r}", head_class(name))
        values = {key: v for key, v in wildcard.parameters.items() if key in model.model_fields}
        try:
            resolve_with(f"head {name!r}", model, values)
        except UserError:
            continue
        heads.append(Component(name=name, parameters=values))
    return heads
