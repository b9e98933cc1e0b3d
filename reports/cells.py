"""Every cell by itself: configuration, key, result, history, log, and the code that made it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from marginbench import SectionContent, Table, section
from marginbench.reporting.sections import Link
from marginbench.runs.conditions import conditions_text, varying_conditions
from marginbench.runs.values_in_words import values_as_text
from marginbench.text import count, percent

MOST_ROWS = 2000


@section("cells", title="Cells", order=86, always=True)
def cells(results: pd.DataFrame) -> SectionContent:
    """One table, a row a cell, with links into the run folders."""
    if results.empty:
        return SectionContent()
    shown = results.head(MOST_ROWS)
    # What differs between settings is in the methods; here, what differs within one.
    varying = {name: varying_conditions(rows) for name, rows in results.groupby("setting")}
    frame = pd.DataFrame([_cells(row, varying[row["setting"]]) for row in shown.to_dict("records")])
    if results["verification_accuracy"].isna().all():
        frame = frame.drop(columns="verification %")
    caption = (
        f"{'Every cell' if len(shown) == len(results) else count(len(shown), 'cell')}, in the "
        "suite's order: its configuration (the head's parameters, then what differs between the "
        "cells of its setting; the key leads to the whole of it), and the digest of the code that "
        "decides its result. The links lead into the run folders beside the report."
    )
    if len(shown) < len(results):
        caption += f" The others of {len(results):,} are in `marginbench export --csv DIR`."
    return SectionContent(tables=[Table("cells", caption, frame)])


def _cells(row: dict[str, Any], varying: list[str]) -> dict[str, Any]:
    folder = row["folder"] if isinstance(row["folder"], Path) else Path()
    parameters = values_as_text(row["head_parameters"] or {})
    rest = conditions_text(row["conditions"], varying)
    seconds = row["seconds"]
    return {
        "head": row["label"],
        "setting": row["setting"],
        "seed": row["seed"],
        "state": row["state"],
        "test error %": percent(row["test_error"]),
        "verification %": percent(row["verification_accuracy"]),
        "seconds": "–" if seconds is None or pd.isna(seconds) else f"{seconds:.1f}",
        "key": Link(str(row["key"]), folder / "cell.json"),
        "history": Link("history", folder / "history.jsonl"),
        "log": Link("log", folder / "log.txt"),
        "code": row["code"] if isinstance(row["code"], str) else "–",
        "configuration": ", ".join(filter(None, [parameters, rest])),
    }
