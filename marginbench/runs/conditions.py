"""What distinguishes the rows of a results frame: labels, settings, conditions."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from marginbench.errors import UserError
from marginbench.experiments.cell_fields import Training
from marginbench.experiments.cell_keys import canonical
from marginbench.experiments.cells import Cell
from marginbench.runs.values_in_words import told_apart, values_as_text
from marginbench.text import distinct, quoted

if TYPE_CHECKING:
    import pandas as pd

FOR_THE_KEY = ("added_later", "former_names")
ALWAYS_SHOWN = ("m", "sampled_classes")


class LabelledHead(NamedTuple):
    """The head of a row, as :func:`head_labels` needs it.

    Attributes:
        comparison: of the row.
        key: equal for equal heads, see :attr:`Cell.head_key`.
        name: of the head.
        parameters: all of them.
    """

    comparison: str
    key: str
    name: str
    parameters: Mapping[str, Any]


def row_labels(cells: Iterable[Cell]) -> list[str]:
    """:func:`head_labels` of cells."""
    return head_labels(
        [LabelledHead(c.comparison, c.head_key, c.head.name, c.head.parameters) for c in cells]
    )


def labels_of_frame(rows: pd.DataFrame, comparison: str | None = None) -> list[str]:
    """:func:`head_labels` of the rows of a results frame.

    Rows of a tuned suite, and rows without a head's key (of a published table), keep their labels.

    Args:
        rows: see :func:`marginbench.runs.results.results`.
        comparison: to tell heads apart that are not of one comparison: all rows count as of this.
    """
    if "head_key" not in rows or rows["search"].notna().any() or rows["head_key"].isna().any():
        return list(rows["label"])
    comparisons = rows["comparison"] if comparison is None else [comparison] * len(rows)
    columns = (rows[name] for name in ("head_key", "head", "head_parameters"))
    return head_labels([LabelledHead(*one) for one in zip(comparisons, *columns, strict=True)])


def head_labels(heads: Sequence[LabelledHead]) -> list[str]:
    """Head and m, and the parameters that differ between the heads of one name and comparison.

    Equal heads have one label in all comparisons; different ones of a comparison have different
    labels. Numbers have six digits if these tell the heads apart, else all digits that they need. A
    loss over sampled classes is another one than its head's, and always says so.
    """
    named: dict[str, dict[tuple[str, str], LabelledHead]] = {}
    for head in heads:
        named.setdefault(head.name, {}).setdefault((head.comparison, head.key), head)
    labels: dict[tuple[str, str, str], str] = {}
    for name, own in named.items():
        compared: dict[str, list[Mapping[str, Any]]] = {}
        for head in own.values():
            compared.setdefault(head.comparison, []).append(head.parameters)
        varying = {field for rows in compared.values() for field in varying_fields(rows)}
        shown = [
            {k: v for k, v in head.parameters.items() if k in ALWAYS_SHOWN or k in varying}
            for head in own.values()
        ]
        texts = zip(own, told_apart(shown), strict=True)
        labels |= {(name, *place): f"{name} {text}".strip() for place, text in texts}
    return [labels[head.name, head.comparison, head.key] for head in heads]


def settings(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """(name, rows) of each comparison, in the suite's order. The names are unique.

    Raises:
        UserError: see :func:`check_rows`.
    """
    check_rows(frame)
    names, groups = [], []
    for _, rows in frame.groupby("comparison", sort=False):
        first = rows.iloc[0]
        parts = [first["data"], first["backbone"], first.get("regulariser")]
        parts += ["opt"] if first.get("training") == "opt" else []
        names.append(first["setting"] or ", ".join(part for part in parts if isinstance(part, str)))
        groups.append(rows)
    return list(zip(distinct(names), groups, strict=True))


def check_rows(frame: pd.DataFrame) -> None:
    """Make sure that a label of a comparison is one head, with one row a seed.

    Whatever counts seeds or takes means groups the rows by label.

    Raises:
        UserError: it is not; the message names the label.
    """
    place = ["comparison", "label"]
    twice = frame.duplicated([*place, "seed"])
    # Tables that were published before there were keys of heads have none.
    columns = [name for name in (*place, "head_key") if name in frame]
    heads = frame[columns].drop_duplicates()
    several = heads.duplicated(place)
    if twice.any():
        row = frame[twice].iloc[0]
        found = f"two rows of seed {row['seed']}"
    elif several.any():
        row = frame.loc[heads.index[several][0]]
        found = "rows of two heads"
    else:
        return
    raise UserError(
        f"results frame: the label {quoted(row['label'])} has {found} in {quoted(row['setting'])}; "
        "allowed: one head a label, one row a seed, as `results()` gives them"
    )


def conditions_key(conditions: dict[str, Any], *without: str) -> str:
    """Equal for runs whose conditions differ in nothing else than the named fields."""
    kept = {field: value for field, value in conditions.items() if field not in without}
    return json.dumps(kept, sort_keys=True, default=str)


def varying_conditions(frame: pd.DataFrame) -> list[str]:
    """The fields of the conditions that differ between rows of a frame, in a cell's order."""
    # The cells of a comparison share one mapping: it is looked at once.
    once = {id(conditions): conditions for conditions in frame["conditions"]}
    return varying_fields(list(once.values()))


def varying_fields(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of the values that differ between rows, or that not every row has."""
    seen: dict[str, set[str]] = {}
    for row in rows:
        for field, value in row.items():
            seen.setdefault(field, set()).add(repr(canonical(value)))
    return [
        field
        for field, values in seen.items()
        if len(values) > 1 or any(field not in row for row in rows)
    ]


def conditions_text(conditions: Mapping[str, Any], fields: list[str]) -> str:
    """Some of the conditions in words: "batch_size=64 weight_decay=0.001"."""
    return values_as_text(_chosen(conditions, fields))


def _chosen(conditions: Mapping[str, Any], fields: list[str]) -> dict[str, Any]:
    """Some of the conditions by the last part of their names, or by all if two have that part."""
    last = [field.rpartition(".")[2] for field in fields]
    names = [
        field if last.count(name) > 1 else name for field, name in zip(fields, last, strict=True)
    ]
    return {name: conditions.get(field, "–") for name, field in zip(names, fields, strict=True)}


def differences(cells: Iterable[Cell]) -> dict[str, str]:
    """What tells apart the cells whose folders' names differ in the key alone, by key: "s=5"."""
    alike: dict[tuple[str, str], dict[str, Cell]] = defaultdict(dict)
    for cell in cells:
        alike[cell.slug, cell.setting][cell.key] = cell
    found: dict[str, str] = {}
    for group in alike.values():
        if len(group) > 1:
            flat = [
                {f"head.{name}": value for name, value in cell.head.parameters.items()}
                | conditions_of(cell)
                for cell in group.values()
            ]
            fields = varying_fields(flat)
            texts = told_apart([_chosen(one, fields) for one in flat])
            found |= zip(group, texts, strict=True)
    return found


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
