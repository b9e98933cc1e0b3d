"""One-shot classification: one image a class is known, of classes never trained on."""

from __future__ import annotations

import pandas as pd

from marginbench import SectionContent, Table, section
from marginbench.reporting.comparison_table import ComparedRow, compare
from marginbench.runs.conditions import settings
from marginbench.runs.results import finished_runs
from marginbench.text import slug

from .retrieval_table import difference_text, mean_text


@section("one-shot", title="One-shot classification", order=55)
def one_shot(results: pd.DataFrame) -> SectionContent:
    """A table for every setting whose data has the task: error of every head and difference."""
    tables = []
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
        frame = pd.DataFrame([_cells(row) for row in compare(rows, "one_shot_error")])
        tables.append(Table(f"one-shot-{slug(name)}", caption, frame))
    return SectionContent(tables=tables)


def _cells(row: ComparedRow) -> dict[str, str]:
    return {
        "head": row.label,
        "one-shot error %": mean_text(pd.Series(row.test_errors, dtype=float)),
        "seeds": row.seed_count,
        "difference": difference_text(row),
        "p (Holm)": "" if row.p_value is None else f"{row.p_value:.3f}",
    }
