"""Named values as text: parameters of heads, conditions of cells."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from marginbench.experiments.cell_keys import canonical
from marginbench.text import printable_line

LONGEST_VALUE = 60
"""Of a longer one a label has the beginning, and a hash."""


def values_as_text(values: Mapping[str, Any]) -> str:
    """Named values in one line, "m=4 s=30", numbers with all digits that they need."""
    return " ".join(f"{name}={number_as_text(value)}" for name, value in values.items())


def number_as_text(value: Any) -> str:
    """Six digits of a number if it has no more, else all; another value as it stands."""
    short = f"{value:g}" if isinstance(value, float) else str(value)
    return short if not isinstance(value, float) or float(short) == value else repr(value)


def told_apart(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The named values of each row in one line, "m=4 s=30"; different rows have different lines.

    A number has six digits, a text is as it stands, and of a long value there is the beginning and
    a hash, unless two values of a name would look alike: then all of that name are JSON.
    """
    seen: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for row in rows:
        for name, value in row.items():
            seen[name][_short(value)].add(exact(value))
    alike = {name for name, texts in seen.items() if any(len(own) > 1 for own in texts.values())}
    lines = [
        " ".join(f"{n}={exact(v) if n in alike else _short(v)}" for n, v in row.items())
        for row in rows
    ]
    whole = [" ".join(f"{n}={exact(v)}" for n, v in row.items()) for row in rows]
    # Texts that hold spaces and equals signs.
    return whole if len(set(zip(lines, whole, strict=True))) > len(set(lines)) else lines


def _short(value: Any) -> str:
    text = printable_line(f"{value:g}" if isinstance(value, float) else str(value))
    if len(text) <= LONGEST_VALUE:
        return text
    return f"{text[: LONGEST_VALUE // 2]}… {hashlib.sha256(exact(value).encode()).hexdigest()[:6]}"


def exact(value: Any) -> str:
    """JSON, the same for values that are the same in a cell's key."""
    return json.dumps(canonical(value), sort_keys=True, default=repr)
