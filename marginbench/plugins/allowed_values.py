"""What a parameter or a field may be, in words, and refusals that say it."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from marginbench.text import quoted

_BOUNDS = {
    annotated_types.Gt: (">", "above ", "gt"),
    annotated_types.Ge: ("≥", "", "ge"),
    annotated_types.Lt: ("<", "below ", "lt"),
    annotated_types.Le: ("≤", "", "le"),
}
_TYPES = {
    **{int: "integer", float: "number", bool: "True or False", str: "text"},
    **{Any: "any value", dict: "mapping", list: "list", tuple: "list"},
}
_MAPPINGS, _LISTS = (Mapping, dict), (tuple, Sequence, list)


def allowed_values(field: FieldInfo) -> str:
    """What a parameter may be, in words: "integer ≥ 1", "'a' or 'b'", "number from 0 to 1"."""
    return _allowed(field.annotation, field.metadata)


def refusal(owner: str, model: type[BaseModel], error: ValidationError, most: int = 5) -> str:
    """Pydantic's complaint as one sentence a field: field, value, what is allowed.

    Args:
        owner: of the fields.
        model: that was checked.
        error: its complaint.
        most: the number of fields that are told of.
    """
    sentences = [_sentence(owner, model, e) for e in error.errors()[:most]]
    more = error.error_count() - len(sentences)
    return "; ".join([*sentences, f"and {more} more"] if more and most > 1 else sentences)


def _sentence(owner: str, model: type[BaseModel], error: Any) -> str:
    path = ".".join(str(part) for part in error["loc"]) or "value"
    if error["type"] == "extra_forbidden":
        parent = _annotation_at(model, error["loc"][:-1])[0]
        names = ", ".join(parent.model_fields) if _is_model(parent) else "none"
        return f"{owner} has no field {path!r}; there are: {names}"
    if error["type"] == "missing":
        return f"{owner} needs the field {path!r}"
    if error["type"] == "json_invalid":
        return f"{owner} is not JSON: {error['ctx']['error']}"
    if error["type"] in ("value_error", "assertion_error"):
        allowed = str(error["ctx"]["error"])
    else:
        allowed = _allowed(*_annotation_at(model, error["loc"]))
    if error["type"] == "finite_number":
        allowed = allowed.replace("number", "finite number")
    return f"{owner}: {path} = {quoted(error['input'])} is not allowed; allowed: {allowed}"


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _annotation_at(annotation: Any, location: Sequence[str | int]) -> tuple[Any, list[Any]]:
    """The type at a place in a value, and its bounds; of a union's members the whole union."""
    metadata: list[Any] = []
    for part in location:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        if get_origin(annotation) in (Union, types.UnionType):
            inner = [one for one in get_args(annotation) if one is not type(None)]
            if len(inner) != 1:
                break
            annotation = inner[0]
        origin, arguments = get_origin(annotation), get_args(annotation)
        if _is_model(annotation) and part in annotation.model_fields:
            field = annotation.model_fields[part]
            annotation, metadata = field.annotation, list(field.metadata)
        elif origin in _MAPPINGS and len(arguments) == 2:
            annotation, metadata = arguments[1], []
        elif origin in _LISTS and arguments:
            annotation, metadata = arguments[0], []
        else:
            break
    return annotation, metadata


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
    if origin in _MAPPINGS:
        key, item = (_allowed(choice, []) for choice in get_args(annotation))
        return f"mapping from {key} to {item}"
    if origin in _LISTS:
        inner = [choice for choice in get_args(annotation) if choice is not Ellipsis]
        return f"list of {_allowed(inner[0], [])}" if inner else "list"
    if _is_model(annotation):
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
