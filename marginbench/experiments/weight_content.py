"""The file of the weights that a backbone begins with, and its content as part of the cell."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from marginbench.backbones import published_file
from marginbench.data.files.content import content_key
from marginbench.data.files.paths import ROOT_VARIABLE, data_root
from marginbench.errors import UserError


def weight_file(name: str, values: Mapping[str, Any]) -> Path | None:
    """The file that a backbone's weights are in.

    Args:
        name: the backbone's.
        values: its parameters.

    Returns:
        None where it begins with random ones.

    Raises:
        UserError: it is not there, or cannot be fetched.
    """
    if values.get("pretrained"):
        return published_file(name)
    if not values.get("weights"):
        return None
    given = Path(values["weights"]).expanduser()
    path = data_root() / given
    if not path.is_file():
        hint = (
            ""
            if given.is_absolute()
            else (
                f" ({str(given)!r} is relative to the data folder, which --data or {ROOT_VARIABLE} "
                "sets)"
            )
        )
        raise UserError(
            f"backbone {name!r}: weights = {str(path)!r} is no file{hint}; allowed: a file of "
            "safetensors or PyTorch"
        )
    return path


def with_weight_content(name: str, values: dict[str, Any]) -> dict[str, Any]:
    """A backbone's parameters with the hash of its weights filled in, unless it is given.

    With it given, the file need not be there: a report can be made where the runs are and the
    weights are not.

    Raises:
        UserError: see :func:`weight_file`, or it cannot be read.
    """
    if values["content"]:
        return values
    path = weight_file(name, values)
    return values if path is None else values | {"content": content_key(path)}
