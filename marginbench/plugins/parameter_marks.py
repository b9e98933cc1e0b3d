"""Marks of a parameter in its annotation that decide how it goes into a cell's key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class AddedLater:
    """Marks a parameter that a head, backbone or data source got after there were results of it.

    ``easy: Annotated[bool, AddedLater(False)] = False``: at its neutral value the parameter stays
    out of the cell's key, so that the results from before stay those of the same cells. The
    default may be another value. The mark stands outermost in the annotation.

    Attributes:
        neutral: the value at which everything is as it was before there was the parameter.
    """

    neutral: Any


@dataclass(frozen=True)
class FormerName:
    """Marks a parameter that had another name when there were results of it already.

    ``scale: Annotated[Positive, FormerName("s")] = 30.0``: a cell may give either name, and its
    key is the one that it had. The mark stands outermost in the annotation.

    Attributes:
        name: the parameter's name before.
    """

    name: str


@dataclass(frozen=True)
class OutOfKey:
    """Marks a parameter that says where something is, and not what it is: no part of the key.

    ``weights: Annotated[str | None, OutOfKey()] = None``. What it decides stands in another
    parameter, the hash of a file's content, say. The mark stands outermost in the annotation.
    """
