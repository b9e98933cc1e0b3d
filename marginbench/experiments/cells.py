"""A cell: one training run as a frozen, validated value with a key of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, ValidationError
from pydantic_core import from_json

from marginbench.errors import UserError
from marginbench.experiments.cell_fields import Optimiser, Schedule, Training, Verification
from marginbench.plugins.allowed_values import refusal
from marginbench.plugins.component import Component, FrozenValue
from marginbench.plugins.parameters import (
    former_names,
    neutral_values,
    out_of_key,
)

SCHEMA_VERSION: Literal[1] = 1
KEY_LENGTH = 12
FUSED = "fused"
"""The value of :attr:`Cell.execution` for layers that are computed as one."""


ADDED_LATER: Mapping[str, Any] = {
    "verification.record_retrieval": False,
    "verification": {"mirror": "none", "centre": False, "dimensions": 0},
    "schedule.plateau_patience": 0,
    "schedule.plateau_cuts": 2,
    "schedule.plateau_threshold": 0.01,
    "optimiser.kind": "sgd",
    "optimiser.head_rate": 1.0,
    "optimiser.backbone_rate": 1.0,
    "optimiser.clip_norm": 0.0,
    "optimiser.squares_decay": 0.999,
    "optimiser.epsilon": 1e-8,
    "schedule.course": "steps",
    "schedule.warm_up": 0,
    "regulariser": None,
    "training": {
        "kind": "standard",
        "orthogonal_map": "cayley",
        "block": 512,
        "block_steps": 100,
    },
}
"""Fields that came after the first keys were published, and what held before there were any. At
that value a field stays out of the hash, so the keys of old runs stay theirs. Parameters of heads,
backbones and data sources say the same of themselves: marginbench.plugins.parameters.AddedLater."""


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

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As of every model; what was cached here is not the copy's."""
        copied = super().model_copy(update=update, deep=deep)
        for name in ("key", "comparison"):
            copied.__dict__.pop(name, None)
        return copied

    def _hash_without(self, *fields: str) -> str:
        values = self.model_dump(mode="json", exclude=set(fields))
        for path, neutral in ADDED_LATER.items():
            *parents, name = path.split(".")
            holder = values
            for parent in parents:
                holder = holder[parent]
            if _canonical(holder[name]) == _canonical(neutral):
                del holder[name]
        for part in {"data", "backbone", "head", "regulariser"} & values.keys():
            parameters = values[part]["parameters"]
            for name in values[part].pop("added_later"):
                parameters.pop(name, None)
            for name, former in values[part].pop("former_names").items():
                if name in parameters:
                    parameters[former] = parameters.pop(name)
        return _hash(values)

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
            stored = from_json(text, allow_inf_nan=False)
        except ValueError:
            return False
        return _text(stored) == _text(self._values())

    def _values(self) -> dict[str, Any]:
        return _canonical(self.model_dump(mode="json"))


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
        if parameter in values and _canonical(values[parameter]) == _canonical(neutral)
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
        UserError: the text is no JSON, or no cell.
    """
    try:
        return Cell.model_validate_json(text)
    except ValidationError as error:
        raise UserError(refusal("cell", Cell, error)) from None


def _canonical(value: Any) -> Any:
    """Whole floats, as far as they are exact, as integers, so that 4 and 4.0 give one key."""
    kind = type(value)
    # Most values are these; suites have thousands of cells.
    if kind is str or kind is int:
        return value
    if kind is dict:
        return {key: _canonical(item) for key, item in value.items()}
    if kind is list or kind is tuple:
        return [_canonical(item) for item in value]
    if kind is float and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value


def _hash(value: Any) -> str:
    return hashlib.sha256(_text(_canonical(value)).encode()).hexdigest()[:KEY_LENGTH]


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
