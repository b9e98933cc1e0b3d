"""The key of a cell: a hash of what is part of the experiment, the same for equal cells."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from marginbench.plugins.component import Component, FrozenValue

KEY_LENGTH = 12

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


def hash_of_fields(fields: Mapping[str, Any]) -> str:
    """A hash of a resolved cell's fields, or of some of them.

    Args:
        fields: their values by their names.
    """
    texts = {
        name: _text_of_value(name, _Same(value))
        if isinstance(value, FrozenValue)
        else _text_in_key(name, value)
        for name, value in fields.items()
    }
    members = [f'"{name}":{text}' for name, text in sorted(texts.items()) if text is not None]
    return hashlib.sha256(f"{{{','.join(members)}}}".encode()).hexdigest()[:KEY_LENGTH]


class _Same:
    """A value that equals itself only: cells of a suite share theirs, and most have no hash."""

    __slots__ = ("value",)

    def __init__(self, value: FrozenValue) -> None:
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value


@lru_cache(maxsize=1024)
def _text_of_value(field: str, same: _Same) -> str | None:
    values = same.value.model_dump(mode="json")
    if isinstance(same.value, Component):
        parameters = values["parameters"]
        for name in values.pop("added_later"):
            parameters.pop(name, None)
        for name, former in values.pop("former_names").items():
            if name in parameters:
                parameters[former] = parameters.pop(name)
    return _text_in_key(field, values)


def _text_in_key(field: str, value: Any) -> str | None:
    """A field's value as text, or None: it stays out of the hash."""
    value = canonical(value)
    for path, neutral in ADDED_LATER.items():
        name, _, inner = path.partition(".")
        if name == field and inner and value[inner] == canonical(neutral):
            del value[inner]
        elif name == field and not inner and value == canonical(neutral):
            return None
    return as_text(value)


def canonical(value: Any) -> Any:
    """Whole floats, as far as they are exact, as integers, so that 4 and 4.0 give one key."""
    kind = type(value)
    # Most values are these; suites have thousands of cells.
    if kind is str or kind is int:
        return value
    if kind is dict:
        return {key: canonical(item) for key, item in value.items()}
    if kind is list or kind is tuple:
        return [canonical(item) for item in value]
    if kind is float and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value


def as_text(value: Any) -> str:
    """JSON without spaces, its keys sorted."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
