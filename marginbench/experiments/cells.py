"""A cell: one training run as a frozen, validated value with a key of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, ValidationError
from pydantic_core import from_json

from marginbench.errors import UserError
from marginbench.experiments.cell_fields import Optimiser, Schedule, Training, Verification
from marginbench.experiments.cell_keys import as_text, canonical, hash_of_fields
from marginbench.plugins.allowed_values import refusal
from marginbench.plugins.component import Component, FrozenValue
from marginbench.plugins.parameters import (
    former_names,
    neutral_values,
    out_of_key,
)
from marginbench.text import quoted

SCHEMA_VERSION: Literal[1] = 1
FUSED = "fused"
"""The value of :attr:`Cell.execution` for layers that are computed as one."""


class Cell(FrozenValue):
    """One training run. Same key, same run: to the bit on CPU.

    Attributes:
        schema_version: of this format.
        data: what is trained and tested on.
        backbone: images → features.
        head: features and labels → loss.
        regulariser: weights → what is added to the loss; None: nothing is.
        optimiser: see :class:`Optimiser`.
        schedule: see :class:`Schedule`.
        training: see :class:`Training`.
        verification: see :class:`Verification`.
        seed: of backbone, head and batch order, each with a generator of its own.
        precision: of the backbone; the head computes in float32.
        execution: "compiled" trains the backbone through torch.compile, "fused" computes
            convolution, batch normalisation and PReLU in one pass on the CPU. Each rounds
            otherwise than "eager" and so is part of the key.
        setting: what the report calls the cells that differ in head and seed only; no part of
            the key.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    data: Component
    backbone: Component
    head: Component
    regulariser: Component | None = None
    optimiser: Optimiser = Optimiser()
    schedule: Schedule
    training: Training = Training()
    verification: Verification = Verification()
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    precision: Literal["float32", "bf16"] = "float32"
    execution: Literal["eager", "compiled", "fused"] = "eager"
    setting: str = ""

    @cached_property
    def key(self) -> str:
        """Hash of what is part of the experiment; of a resolved cell (:func:`resolve_cell`)."""
        return self._hash_without("setting")

    @cached_property
    def comparison(self) -> str:
        """Hash of everything but head and seed: cells that share it may be compared."""
        return self._hash_without("setting", "head", "seed")

    @cached_property
    def head_key(self) -> str:
        """Hash of the head: equal heads have the same one, whatever else differs."""
        return hash_of_fields({"head": self.head})

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As of every model; what was cached here is not the copy's."""
        copied = super().model_copy(update=update, deep=deep)
        for name in ("key", "comparison", "head_key"):
            copied.__dict__.pop(name, None)
        return copied

    def _hash_without(self, *fields: str) -> str:
        return hash_of_fields({n: getattr(self, n) for n in Cell.model_fields if n not in fields})

    @property
    def slug(self) -> str:
        """A readable folder name; not unique by itself."""
        m = self.head.parameters.get("m")
        parts = [self.data.name, self.backbone.name, self.head.name]
        parts += [f"m{m:g}"] if isinstance(m, (int, float)) else []
        parts += [self.regulariser.name] if self.regulariser else []
        parts += [self.training.kind] if self.training != Training() else []
        return "-".join([*parts, f"seed{self.seed}"]).replace("/", "_").replace(":", "_")

    def to_json(self) -> str:
        """The cell as canonical, indented JSON."""
        return json.dumps(self._values(), indent=2, sort_keys=True) + "\n"

    def is_stored_as(self, text: str) -> bool:
        """Whether a text has the values of :meth:`to_json`; cheaper than reading a cell of it."""
        try:
            return as_text(from_json(text, allow_inf_nan=False)) == as_text(self._values())
        except ValueError:
            # No JSON, or a number that JSON has and a float cannot hold.
            return False

    def _values(self) -> dict[str, Any]:
        return canonical(self.model_dump(mode="json"))


def make_cell(**fields: Any) -> Cell:
    """A cell from its fields, checked.

    Raises:
        UserError: a field that is missing, unknown or not allowed; the message names the field,
            the value and what is allowed.
    """
    try:
        cell = Cell.model_validate(fields)
    except ValidationError as error:
        raise UserError(refusal("cell", Cell, error)) from None
    late = [m for m in cell.schedule.milestones if m >= cell.schedule.iterations]
    if late or list(cell.schedule.milestones) != sorted(set(cell.schedule.milestones)):
        raise UserError(
            f"cell: schedule.milestones = {list(cell.schedule.milestones)} is not allowed; "
            f"allowed: rising iterations below schedule.iterations = {cell.schedule.iterations}"
        )
    if cell.schedule.milestones and cell.schedule.plateau_patience:
        raise UserError(
            f"cell: schedule.plateau_patience = {cell.schedule.plateau_patience} is not allowed "
            "with milestones; allowed: either of them"
        )
    if cell.schedule.course == "cosine" and (
        cell.schedule.milestones or cell.schedule.plateau_patience
    ):
        raise UserError(
            "cell: schedule.course = 'cosine' is not allowed with milestones or "
            "plateau_patience; allowed: either of them"
        )
    if cell.schedule.warm_up >= cell.schedule.iterations:
        raise UserError(
            f"cell: schedule.warm_up = {cell.schedule.warm_up} is not allowed; "
            f"allowed: below schedule.iterations = {cell.schedule.iterations}"
        )
    if cell.training.kind == "standard" and cell.training != Training():
        raise UserError(
            f"cell: training = {cell.training} is not allowed; allowed: with kind = 'standard' "
            "none of the other fields"
        )
    if cell.schedule.evaluations > cell.schedule.iterations:
        raise UserError(
            f"cell: schedule.evaluations = {cell.schedule.evaluations} is not allowed; "
            f"allowed: at most schedule.iterations = {cell.schedule.iterations}"
        )
    return cell


def resolved_component(name: str, values: dict[str, Any], model: type[BaseModel]) -> Component:
    """A part of a resolved cell.

    Args:
        name: of the part.
        values: of all its parameters.
        model: the parameters, see :func:`marginbench.plugins.parameters.parameter_model`.
    """
    added = tuple(
        parameter
        for parameter, neutral in neutral_values(model).items()
        if parameter in values and canonical(values[parameter]) == canonical(neutral)
    )
    return Component(
        name=name,
        parameters=values,
        added_later=(*added, *out_of_key(model)),
        former_names=former_names(model),
    )


def cell_from_json(text: str) -> Cell:
    """A cell from :meth:`Cell.to_json`.

    Raises:
        UserError: the text is no JSON, or no cell; or a cell that has no key or no slug.
    """
    try:
        cell = Cell.model_validate_json(text)
        if any(not name.isprintable() for name in (cell.key, cell.slug)):
            raise UserError(f"cell: its name {quoted(cell.slug)} cannot be printed")
    except ValidationError as error:
        raise UserError(refusal("cell", Cell, error)) from None
    except (ValueError, OverflowError, TypeError, LookupError) as error:
        # A parameter may have any JSON value: 1e400, an integer of thousands of digits.
        raise UserError(f"cell: it has no key ({quoted(str(error))})") from None
    return cell
