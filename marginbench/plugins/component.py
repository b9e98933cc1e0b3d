"""A part of a cell by its name: data, backbone or head, and its parameters."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class FrozenValue(BaseModel):
    """A value that cannot be changed, of the fields that it declares and no others."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Component(FrozenValue):
    """A named part of a cell (data, backbone or head) and its parameters.

    Attributes:
        name: see above.
        parameters: by name.
        added_later: of a resolved cell, the parameters that stand at the neutral value of
            :class:`marginbench.plugins.parameters.AddedLater`, and those marked with
            :class:`marginbench.plugins.parameters.OutOfKey`; they are no part of the key.
        former_names: of a resolved cell, the former name of each parameter that had another one
            (:class:`marginbench.plugins.parameters.FormerName`); the key has that one.
    """

    name: str
    parameters: dict[str, Any] = Field(default_factory=dict)
    added_later: tuple[str, ...] = ()
    former_names: dict[str, str] = Field(default_factory=dict)
