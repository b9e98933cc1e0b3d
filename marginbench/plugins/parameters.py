"""Parameters read off a signature: names, defaults, ranges, and clear refusals.

A head, a backbone or a data source declares its parameters once, as annotated keyword-only
arguments; this module checks given values against them and fills in the defaults, so that a
cell's key is a hash of what really runs.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model
from pydantic.fields import FieldInfo

from marginbench.errors import UserError
from marginbench.plugins.allowed_values import allowed_values
from marginbench.plugins.parameter_marks import AddedLater, FormerName, OutOfKey
from marginbench.text import quoted

LARGEST_INTEGER = 2**63 - 1
"""Of a parameter: what 64 bits hold."""

Positive = Annotated[float, Field(gt=0)]
"""A real number above 0."""
NonNegative = Annotated[float, Field(ge=0)]
"""A real number, 0 or above."""
Fraction = Annotated[float, Field(ge=0, le=1)]
"""A real number from 0 to 1."""
Probability = Annotated[float, Field(gt=0, lt=1)]
"""A real number between 0 and 1, both excluded."""
AtLeastOne = Annotated[float, Field(ge=1)]
"""A real number, 1 or above."""
PositiveInteger = Annotated[int, Field(ge=1)]
"""A whole number, 1 or above."""
MultiplicativeMargin = Annotated[float, Field(ge=1, le=100)]
"""A factor of the angle, real. The papers' are below 10; at 100 the margin's whole range, an angle
of π/100, is near what float32 resolves."""
IntegerMultiplicativeMargin = Annotated[int, Field(ge=1, le=100)]
"""A factor of the angle, whole; see :data:`MultiplicativeMargin`."""
CosineMargin = Annotated[float, Field(ge=0, le=2)]
"""What is taken from a cosine. Cosines span 2, so that a larger margin is never met."""
SquaredDistanceMargin = Annotated[float, Field(ge=0, le=4)]
"""A margin on the squared distances of unit vectors, which span 4."""
Subcenters = Annotated[int, Field(ge=1, le=100)]
"""Centres a class. The papers have at most 10."""
AngularMargin = Annotated[float, Field(ge=0, lt=math.pi)]
"""An angle in radians, from 0 to below π."""
BeyondPi = Literal["linear", "mirror", "clamp", "none", "easy"]
"""What holds beyond θ = π − m, where cos(θ + m) would rise, or where cos θ ≤ 0: see
``marginbench.heads.additive.additive_psi``."""
MarginGradient = Literal["exact", "detached"]
"""The gradient of the target's logit: "exact", or "detached", where the margin counts as a
constant and the logit's slope in the cosine is that of no margin at all. Widely used code computes
the latter, by taking the margin without tracking gradients."""


Mark = TypeVar("Mark", AddedLater, FormerName, OutOfKey)

_CONFIG = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


@cache
def parameter_model(owner: str, function: Callable[..., Any]) -> type[BaseModel]:
    """The keyword-only parameters of a function or class as a pydantic model.

    Args:
        owner: what the parameters belong to, for messages ("head 'arcface'").
        function: its keyword-only arguments are the parameters; each needs an annotation. Those
            that a class shares with others (:func:`shared_parameters`) come after its own.

    Raises:
        UserError: the function swallows any keyword (``**``) or leaves a parameter unannotated.
    """
    target = function.__init__ if inspect.isclass(function) else function
    fields = _keyword_fields(owner, target)
    for name, field in _keyword_fields(owner, shared_parameters(function)).items():
        fields.setdefault(name, field)
    return make_parameter_model(owner, fields)


def shared_parameters(function: Callable[..., Any]) -> Callable[..., Any]:
    """What declares the parameters that a class or function has in common with others of its kind.

    These are none of its own signature: whoever builds it passes them on by other ways. A parameter
    of its own by the same name comes first.

    Args:
        function: a class, or a function, with a ``shared_parameters()``, or anything else, which
            has none.
    """
    found = getattr(function, "shared_parameters", None)
    return _no_parameters if found is None else found()


def _no_parameters() -> None:
    """Has none."""


def _keyword_fields(owner: str, target: Callable[..., Any]) -> dict[str, Any]:
    """(annotation, default) of each keyword-only parameter; ``...`` where there is no default."""
    hints = get_type_hints(target, include_extras=True)
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(target).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            raise UserError(
                f"{owner} takes **{name}, which would swallow misspelt parameters: "
                "name each parameter in the signature"
            )
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            continue
        if name not in hints:
            raise UserError(f"{owner}: parameter {name!r} needs a type annotation")
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        fields[name] = (hints[name], default)
    return fields


def make_parameter_model(owner: str, fields: Mapping[str, Any]) -> type[BaseModel]:
    """A model of parameters from (annotation, default) by name; ``...`` where there is none.

    Raises:
        UserError: a neutral value (:class:`AddedLater`) that is not allowed, or a former name
            (:class:`FormerName`) that another parameter has.
    """
    model = create_model(f"Parameters of {owner}", __config__=_CONFIG, **fields)
    for name, value in neutral_values(model).items():
        try:
            TypeAdapter(fields[name][0], config=ConfigDict(strict=True)).validate_python(value)
        except ValidationError:
            allowed = allowed_values(model.model_fields[name])
            raise UserError(
                f"{owner}: {name} is marked with AddedLater({value!r}), which is not allowed; "
                f"allowed: {allowed}"
            ) from None
    for name, former in former_names(model).items():
        if former in fields:
            raise UserError(
                f"{owner}: {name} is marked with FormerName({former!r}), which is not allowed: "
                "another parameter has that name"
            )
    return model


def former_names(model: type[BaseModel]) -> dict[str, str]:
    """The former name of each parameter that is marked with :class:`FormerName`, by its name."""
    return {name: mark.name for name, mark in _marks(model, FormerName)}


def neutral_values(model: type[BaseModel]) -> dict[str, Any]:
    """The neutral value of each parameter that is marked with :class:`AddedLater`, by name."""
    return {name: mark.neutral for name, mark in _marks(model, AddedLater)}


def out_of_key(model: type[BaseModel]) -> tuple[str, ...]:
    """The parameters that are marked with :class:`OutOfKey`."""
    return tuple(name for name, _ in _marks(model, OutOfKey))


def _marks(model: type[BaseModel], kind: type[Mark]) -> Iterator[tuple[str, Mark]]:
    for name, field in model.model_fields.items():
        for mark in field.metadata:
            if isinstance(mark, kind):
                yield name, mark


def resolve(owner: str, function: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """:func:`resolve_with` the parameters that a function or class declares."""
    return resolve_with(owner, parameter_model(owner, function), given)


def resolve_with(owner: str, model: type[BaseModel], given: Mapping[str, Any]) -> dict[str, Any]:
    """The given parameters checked, and the defaults filled in.

    Args:
        owner: what the parameters belong to, for messages.
        model: see :func:`parameter_model`.
        given: values by name, or by a former name; lists count as tuples.

    Returns:
        A value for every parameter, in the order of the signature.

    Raises:
        UserError: an unknown parameter, a missing one, or a value that is not allowed; the
            message names the owner, the parameter, the value and what is allowed.
    """
    fields = model.model_fields
    for name, former in former_names(model).items():
        if former in given:
            if name in given:
                raise UserError(f"{owner}: {name} and its former name {former} are both given")
            given = {name if key == former else key: value for key, value in given.items()}
    for name, value in given.items():
        if _has_huge_integer(value):
            raise UserError(
                f"{owner}: {name} = {quoted(value)} is not allowed; allowed: whole numbers of at "
                "most 64 bits"
            )
    try:
        values = model(**{name: _tuples(value) for name, value in given.items()})
    except ValidationError as error:
        raise UserError(
            "; ".join(_explain(owner, fields, given, e) for e in error.errors())
        ) from None
    return {name: getattr(values, name) for name in fields}


def default_text(field: FieldInfo) -> str:
    """A parameter's default as a user would type it, or "required"."""
    return "required" if field.is_required() else repr(field.default)


def describe_parameters(owner: str, function: Callable[..., Any]) -> list[tuple[str, str, str]]:
    """(name, default, allowed values) of each parameter."""
    fields = parameter_model(owner, function).model_fields
    return [(name, default_text(field), allowed_values(field)) for name, field in fields.items()]


def _explain(
    owner: str, fields: Mapping[str, FieldInfo], given: Mapping[str, Any], error: Any
) -> str:
    name = str(error["loc"][0])
    if error["type"] == "extra_forbidden":
        names = ", ".join(fields) or "none"
        return f"{owner} has no parameter {quoted(name)}; its parameters: {names}"
    allowed = allowed_values(fields[name])
    if error["type"] == "missing":
        return f"{owner} needs its parameter {name!r} ({allowed})"
    return f"{owner}: {name} = {quoted(given[name])} is not allowed; allowed: {allowed}"


def _has_huge_integer(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_has_huge_integer(item) for item in value)
    return isinstance(value, int) and abs(value) > LARGEST_INTEGER


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
