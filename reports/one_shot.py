"""One-shot classification: one image a class is known, of classes never trained on."""

from __future__ import annotations

from typing import Any

import pandas as pd

from marginbench import SectionContent, Table, section
from marginbench.reporting.compared_tables import ONE_SHOT_ERROR
from marginbench.reporting.comparison_table import ComparedRow, compare
from marginbench.reporting.verdict_words import verdict_cells, verdicts_by_label
from marginbench.reporting.verdicts import verdicts
from marginbench.runs.conditions import settings
from marginbench.runs.results import finished_runs
from marginbench.text import slug

from .retrieval_table import mean_text


@section("one-shot", title="One-shot classification", order=55)
def one_shot(results: pd.DataFrame) -> SectionContent:
    """A table for every setting whose data has the task: error of every head and difference."""
    tables = []
    if results[ONE_SHOT_ERROR].isna().all():
        return SectionContent()
    found = verdicts(results)
    for name, rows in settings(results):
        done = finished_runs(rows).dropna(subset=["one_shot_error"])
        if done.empty:
            continue
        first = done.iloc[0]["one_shot"]
        caption = (
            f"{name}: {max(first['ways'])}-way one-shot classification by the nearest of one image "
            f"a class, {len(first['runs'])} runs (Lake et al., Science 2015): error, mean over "
            "seeds, in brackets its 95 % confidence interval; the difference to the baseline in "
            "percentage points. A tie counts as wrong."
        )
        verdict_of = verdicts_by_label(found, name, ONE_SHOT_ERROR)
        frame = pd.DataFrame([_cells(row, verdict_of) for row in compare(rows, ONE_SHOT_ERROR)])
        tables.append(Table(f"one-shot-{slug(name)}", caption, frame))
    return SectionContent(tables=tables)


def _cells(row: ComparedRow, found: dict[str, Any]) -> dict[str, str]:
    return {
        "head": row.label,
        "one-shot error %": mean_text(pd.Series(row.test_errors, dtype=float)),
        "seeds": row.seed_count,
        **verdict_cells(row.label, row.is_baseline, found),
    }
