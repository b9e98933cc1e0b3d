"""The folders of data and of what was decoded from them."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from marginbench.data.formats.reading import reading
from marginbench.errors import UserError

ROOT_VARIABLE = "MARGINBENCH_DATA"
CACHE_VARIABLE = "MARGINBENCH_CACHE"


def data_root() -> Path:
    """The folder that all names of data are relative to; it need not exist yet.

    It is ``MARGINBENCH_DATA`` (which ``--data`` sets), else ``~/.cache/marginbench/data``. A cell
    names its data relative to it, so that data which moves as a whole stays the same data.
    """
    given = os.environ.get(ROOT_VARIABLE)
    return _folder(ROOT_VARIABLE, given) if given else _default_cache() / "data"


def cache_folder() -> Path:
    """Where decoded images are kept: ``MARGINBENCH_CACHE``, else ``~/.cache/marginbench``."""
    given = os.environ.get(CACHE_VARIABLE)
    return _folder(CACHE_VARIABLE, given) if given else _default_cache()


def data_path(name: str, field: str = "name") -> Path:
    """The path of a user's own images, from their name below the data root.

    Args:
        name: parts joined by "/".
        field: the parameter that gives the name, for messages.

    Raises:
        UserError: the name leaves the root or is absolute, nothing is there, or it cannot be read.
    """
    parts = PurePosixPath(name).parts
    if not parts or PurePosixPath(name).is_absolute() or ".." in parts or "~" in name:
        raise UserError(
            f"{field} = {name!r} is not allowed; allowed: a name relative to the data "
            f"folder {str(data_root())!r} (set it by --data or {ROOT_VARIABLE}), so that the "
            "data can move without becoming other data"
        )
    path = data_root().joinpath(*parts)
    with reading(path):
        there = path.exists()
    if not there:
        raise UserError(
            f"{str(path)!r} does not exist; the {field} {name!r} is relative to the data "
            f"folder, which --data or {ROOT_VARIABLE} sets"
        )
    return path


def _folder(variable: str, given: str) -> Path:
    try:
        return Path(given).expanduser().absolute()
    except RuntimeError:
        raise UserError(
            f"{variable} = {given!r} is not allowed; allowed: a folder; there is no such user"
        ) from None


def _default_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "marginbench"
