"""What distinguishes the rows of a results frame: labels, settings, conditions."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import pandas as pd

from marginbench.experiments.cell_fields import Training
from marginbench.experiments.cells import Cell

FOR_THE_KEY = ("added_later", "former_names")
ALWAYS_SHOWN = ("m", "sampled_classes")


def row_labels(cells: list[Cell]) -> list[str]:
    """Head and m, and the parameters that differ between the cells of one head and setting.

    A loss over sampled classes is another one than its head's, and always says so.
    """
    seen: dict[tuple[str, str], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for cell in cells:
        for name, value in cell.head.parameters.items():
            seen[cell.comparison, cell.head.name][name].add(repr(value))
    labels = []
    for cell in cells:
        varying = seen[cell.comparison, cell.head.name]
        shown = {
            name: value
            for name, value in cell.head.parameters.items()
            if name in ALWAYS_SHOWN or len(varying[name]) > 1
        }
        labels.append(f"{cell.head.name} {values_as_text(shown)}".strip())
    return labels


def settings(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """(name, rows) of each comparison, in the suite's order. The names are unique."""
    groups = []
    names: dict[str, int] = defaultdict(int)
    for _, rows in frame.groupby("comparison", sort=False):
        first = rows.iloc[0]
        parts = [first["data"], first["backbone"], first.get("regulariser")]
        parts += ["opt"] if first.get("training") == "opt" else []
        name = first["setting"] or ", ".join(part for part in parts if isinstance(part, str))
        names[name] += 1
        groups.append((name if names[name] == 1 else f"{name} ({names[name]})", rows))
    return groups


def conditions_key(conditions: dict[str, Any], *without: str) -> str:
    """Equal for runs whose conditions differ in nothing else than the named fields."""
    kept = {field: value for field, value in conditions.items() if field not in without}
    return json.dumps(kept, sort_keys=True, default=str)


def varying_conditions(frame: pd.DataFrame) -> list[str]:
    """The fields of the conditions that differ between rows of a frame, in a cell's order."""
    seen: dict[str, set[str]] = {}
    # The cells of a comparison share one mapping: it is looked at once.
    distinct = {id(conditions): conditions for conditions in frame["conditions"]}
    for conditions in distinct.values():
        for field, value in conditions.items():
            seen.setdefault(field, set()).add(repr(value))
    everywhere = [conditions.keys() for conditions in distinct.values()]
    return [
        field
        for field, values in seen.items()
        if len(values) > 1 or any(field not in fields for fields in everywhere)
    ]


def conditions_text(conditions: dict[str, Any], fields: list[str]) -> str:
    """Some of the conditions in words: "batch_size=64 weight_decay=0.001"."""
    return values_as_text({f.rpartition(".")[2]: conditions.get(f, "–") for f in fields})


def values_as_text(values: dict[str, Any]) -> str:
    """Named values in one line: "m=4 s=30"."""
    return " ".join(
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in values.items()
    )


def conditions_of(cell: Cell) -> dict[str, Any]:
    """Everything of a cell but head, seed and name, flat: "optimiser.learning_rate": 0.1.

    What stands at the value that means nothing, no regulariser and standard training, is left out,
    and so is what only the key needs.
    """
    flat: dict[str, Any] = {}
    left_out = {"head", "seed", "setting"}
    left_out |= set() if cell.regulariser else {"regulariser"}
    left_out |= set() if cell.training != Training() else {"training"}
    parts = [("", cell.model_dump(mode="json", exclude=left_out))]
    while parts:
        path, values = parts.pop(0)
        for field, value in values.items():
            if field in FOR_THE_KEY:
                continue
            if isinstance(value, dict) and value:
                parts.append((f"{path}{field}.", value))
            else:
                flat[f"{path}{field}"] = value
    return flat
