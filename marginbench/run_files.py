"""Reading and writing the JSON files of a run folder, with refusals that name the file."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from marginbench.errors import DamagedFile

HISTORY_FIELDS = {"iteration", "learning_rate", "loss", "train_error", "test_error"}


def read_history_file(path: Path) -> list[dict[str, Any]]:
    """The rows of a history.jsonl; none if it is not there.

    Raises:
        DamagedFile: a line does not read; the message names it.
    """
    if not path.exists():
        return []
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        try:
            row = json.loads(line)
        except ValueError:
            raise DamagedFile(path, f"line {number} is not JSON") from None
        if not isinstance(row, dict) or not set(row) >= HISTORY_FIELDS:
            names = ", ".join(sorted(HISTORY_FIELDS))
            raise DamagedFile(path, f"line {number} lacks one of {names}")
        rows.append(row)
    return rows


def read_text(path: Path) -> str:
    """A text file whole.

    Raises:
        DamagedFile: it is missing, or not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise DamagedFile(path, "it is not UTF-8 text") from None
    except FileNotFoundError:
        raise DamagedFile(path, "it is missing") from None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        DamagedFile: it is missing, no JSON, or another value than an object.
    """
    try:
        value = json.loads(read_text(path))
    except ValueError as error:
        raise DamagedFile(path, f"it is not JSON ({error})") from None
    if not isinstance(value, dict):
        raise DamagedFile(path, "it is not a JSON object")
    return value


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
