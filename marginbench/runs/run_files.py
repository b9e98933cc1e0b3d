"""Reading and writing the JSON files of a run folder, with refusals that name the file."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import from_json

from marginbench.errors import DamagedFile
from marginbench.files import read_regular
from marginbench.plugins.allowed_values import refusal

ASIDE = "result-of-other-code.json"
"""A result that a new one is to replace; it counts as none."""

FILES = (
    "result.json",
    ASIDE,
    "checkpoint.pt",
    "history.jsonl",
    "evaluation.npz",
    "environment.json",
    "failure.json",
    "attempts.jsonl",
    # What earlier versions called it.
    "tries.jsonl",
    "cell.json",
)
_NAMES = {*FILES, "log.txt"}
HISTORY_FIELDS = {"iteration", "learning_rate", "loss", "train_error", "test_error"}

Model = TypeVar("Model", bound=BaseModel)


class StoredModel(BaseModel):
    """What a file must hold; no value is converted, and fields beyond those named are kept."""

    model_config = ConfigDict(strict=True, extra="allow")


class _Failure(StoredModel):
    error: str = "unknown"
    traceback: str = ""
    final: bool = False


def odd_file(entries: Iterable[os.DirEntry[str]]) -> str | None:
    """The path of the first entry that bears a file's name and is no file; None without one.

    Args:
        entries: of a run folder.
    """
    for entry in entries:
        if entry.name not in _NAMES and not entry.name.startswith("lease-"):
            continue
        try:
            fine = entry.is_file()
        except OSError:
            fine = False
        # A lease that was tidied up since the folder was listed is no damage.
        if not fine and os.path.lexists(entry.path):
            return entry.path
    return None


def read_failure_file(path: Path) -> dict[str, Any] | None:
    """A failure.json, or None; a damaged one is a failure that is not final."""
    try:
        if not os.path.lexists(path):
            return None
        return checked(path, _Failure, read_json(path)).model_dump()
    except DamagedFile as error:
        return _Failure(error=str(error)).model_dump()


def read_history_file(path: Path) -> list[dict[str, Any]]:
    """The rows of a history.jsonl; none if it is not there.

    Raises:
        DamagedFile: a line does not read; the message names it.
    """
    if not os.path.lexists(path):
        return []
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        try:
            row = from_json(line, allow_inf_nan=False)
        except ValueError:
            raise DamagedFile(path, f"line {number} is not JSON") from None
        if not isinstance(row, dict) or not set(row) >= HISTORY_FIELDS:
            names = ", ".join(sorted(HISTORY_FIELDS))
            raise DamagedFile(path, f"line {number} lacks one of {names}")
        if not all(value is None or is_number(value) for value in row.values()):
            raise DamagedFile(path, f"line {number} holds something else than numbers and null")
        rows.append(row)
    return rows


def read_text(path: Path) -> str:
    """A text file whole.

    Raises:
        DamagedFile: it is missing, no file, too large, cannot be read, or is not UTF-8.
    """
    try:
        return read_regular(path).decode()
    except UnicodeDecodeError:
        raise DamagedFile(path, "it is not UTF-8 text") from None
    except FileNotFoundError:
        raise DamagedFile(path, "it is missing") from None
    except OSError as error:
        raise DamagedFile(path, f"it cannot be read: {error.strerror}") from None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        DamagedFile: it is missing, cannot be read, is no JSON (NaN, infinity, half a surrogate
            pair and hundreds of levels included), or another value than an object.
    """
    text = read_text(path)
    try:
        value = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise DamagedFile(path, f"it is not JSON ({error})") from None
    if not isinstance(value, dict):
        raise DamagedFile(path, "it is not a JSON object")
    return value


def sealed(content: dict[str, Any]) -> dict[str, Any]:
    """What a file is to hold, with a digest, for a file that decides what is trained."""
    content = _finite(content)
    return {**content, "digest": _digest(content)}


def read_sealed(path: Path, *, must: bool) -> dict[str, Any]:
    """A JSON object as :func:`sealed` made it, without the digest.

    Args:
        path: the file.
        must: whether there must be a digest; files of earlier versions have none.

    Raises:
        DamagedFile: see :func:`read_json`, or it was changed after it was written.
    """
    content = read_json(path)
    digest = content.pop("digest", None)
    if (must or digest is not None) and digest != _digest(content):
        raise DamagedFile(path, "its digest is not that of its content: it was changed")
    return content


def _digest(content: dict[str, Any]) -> str:
    try:
        text = json.dumps(content, sort_keys=True)
    except ValueError:
        # An integer of thousands of digits.
        return ""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def checked(path: Path, model: type[Model], value: dict[str, Any]) -> Model:
    """What a file holds, its types checked.

    Raises:
        DamagedFile: a field is missing, or its value is not allowed; the message names it.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise DamagedFile(path, refusal("it", model, error, most=1)) from None


def is_number(value: Any) -> bool:
    """Whether a JSON value is a finite number that a float can hold."""
    return type(value) in (int, float) and abs(value) <= 1e308


def as_json(value: dict[str, Any], indent: int | None = None) -> str:
    """JSON, one value a line or indented; NaN and infinity, which JSON lacks, as null."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    """The value with None in place of NaN and infinity, however deep they lie."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
