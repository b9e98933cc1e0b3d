"""What a parameter or a field may be, in words, and refusals that say it."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

_BOUNDS = {
    annotated_types.Gt: (">", "above ", "gt"),
    annotated_types.Ge: ("≥", "", "ge"),
    annotated_types.Lt: ("<", "below ", "lt"),
    annotated_types.Le: ("≤", "", "le"),
}
_TYPES = {int: "integer", float: "number", bool: "True or False", str: "text"}


def allowed_values(field: FieldInfo) -> str:
    """What a parameter may be, in words: "integer ≥ 1", "'a' or 'b'", "number from 0 to 1"."""
    return _allowed(field.annotation, field.metadata)


def refusal(owner: str, model: type[BaseModel], error: ValidationError) -> str:
    """Pydantic's complaint as one sentence a field: field, value, what is allowed."""
    return "; ".join(_sentence(owner, model, e) for e in error.errors())


def _sentence(owner: str, model: type[BaseModel], error: Any) -> str:
    location = [str(part) for part in error["loc"]]
    fields: Mapping[str, Any] = model.model_fields
    field = None
    for part in location:
        field = fields.get(part)
        inner: Any = getattr(field, "annotation", None)
        is_model = isinstance(inner, type) and issubclass(inner, BaseModel)
        fields = inner.model_fields if is_model else {}
        if field is None:
            break
    path = ".".join(location) or "value"
    if error["type"] == "extra_forbidden":
        parent: Any = model
        for part in location[:-1]:
            parent = parent.model_fields[part].annotation
        return f"{owner} has no field {path!r}; there are: {', '.join(parent.model_fields)}"
    if error["type"] == "missing":
        return f"{owner} needs the field {path!r}"
    # Of a field that is a model, what is wrong may lie deeper: then pydantic's words say it.
    is_of_field = not fields or error["type"] == "model_type"
    allowed = allowed_values(field) if field is not None and is_of_field else error["msg"]
    return f"{owner}: {path} = {error['input']!r} is not allowed; allowed: {allowed}"


def _allowed(annotation: Any, metadata: list[Any]) -> str:
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *extra = get_args(annotation)
        flat = [m for item in extra for m in getattr(item, "metadata", None) or [item]]
        return _allowed(inner, [*flat, *metadata])
    if origin is Literal:
        return " or ".join(repr(choice) for choice in get_args(annotation))
    if origin in (Union, types.UnionType):
        return " or ".join(_allowed(choice, []) for choice in get_args(annotation))
    if origin is Mapping:
        key, item = (_allowed(choice, []) for choice in get_args(annotation))
        return f"mapping from {key} to {item}"
    if origin in (tuple, Sequence):
        inner = [choice for choice in get_args(annotation) if choice is not Ellipsis]
        return f"list of {_allowed(inner[0], [])}" if inner else "list"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        # As a suite writes it: component("arcface", m=0.5), Schedule(iterations=100).
        name = annotation.__name__
        return f"{'component' if name == 'Component' else name}(...)"
    text = "None" if annotation is type(None) else _TYPES.get(annotation, str(annotation))
    text += _range(metadata)
    for bound in metadata:
        if isinstance(bound, annotated_types.MinLen) and bound.min_length:
            text += f" of at least {bound.min_length}"
    return text


def _range(metadata: list[Any]) -> str:
    """Bounds as part of a sentence: " ≥ 1"; of two, " from 0 to below π"."""
    found = [
        (sign, word, getattr(bound, attribute))
        for kind, (sign, word, attribute) in _BOUNDS.items()
        for bound in metadata
        if isinstance(bound, kind)
    ]
    values = [_number(value) for _, _, value in found]
    if len(found) == 2:
        low, high = (word + value for (_, word, _), value in zip(found, values, strict=True))
        return f" from {low} to {high}"
    return "".join(f" {sign} {value}" for (sign, _, _), value in zip(found, values, strict=True))


def _number(value: float) -> str:
    if value == math.pi:
        return "π"
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"
