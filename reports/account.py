"""The account of the grid: what is there, what is missing, what went wrong."""

from __future__ import annotations

import pandas as pd

from marginbench import SectionContent, Table, section
from marginbench.runs.cell_status import State
from marginbench.runs.conditions import settings
from marginbench.text import count, duration


@section("account", title="Account of the cells", order=90)
def account(results: pd.DataFrame) -> SectionContent:
    """Counts of states by setting, and every cell that is not done, with the reason."""
    states = [state.value for state in State]
    rows = []
    for name, group in settings(results):
        counts = group["state"].value_counts()
        rows.append(
            {"setting": name, "cells": len(group)}
            | {state: int(counts.get(state, 0)) for state in states}
        )
    tables = [Table("account", "Cells by setting and state.", pd.DataFrame(rows))] if rows else []
    undone = results[results["state"] != State.DONE.value]
    if not undone.empty:
        frame = pd.DataFrame(
            {
                "cell": undone["folder"].map(lambda folder: folder.name),
                "head": undone["label"],
                "setting": undone["setting"],
                "state": undone["state"],
                "iteration": [
                    f"{done} of {of}"
                    for done, of in zip(undone["iteration"], undone["iterations"], strict=True)
                ],
                "reason": undone["message"],
            }
        )
        caption = "Cells without a number in the tables, and why."
        tables.append(Table("account-not-done", caption, frame))
    return SectionContent(text=[_summary(results)], tables=tables)


def _summary(results: pd.DataFrame) -> str:
    finished = int((results["state"] == State.DONE.value).sum())
    text = f"{finished} of {count(len(results), 'cell')} done"
    for state in State:
        number = int((results["state"] == state.value).sum())
        if number and state != State.DONE:
            text += f", {number} {state.value}"
    seconds = results["seconds"].dropna().astype(float).sum()
    devices = ", ".join(sorted(results["device"].dropna().unique()))
    if devices:
        text += (
            f". Trained on {devices}; {duration(seconds)} of wall time, counting a cell that was "
            "interrupted from where it was last resumed"
        )
    return text + "."
