"""Retrieval among the images of a set of pairs, as a table of the verification section."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from marginbench import Table
from marginbench.reporting.compared_tables import MAP_AT_R
from marginbench.reporting.comparison_table import ComparedRow, compare
from marginbench.reporting.significance import mean_interval, shows_spread
from marginbench.reporting.verdict_words import verdict_cells, verdicts_by_label
from marginbench.reporting.verification_results import VerifiedSetting
from marginbench.text import slug

NAMES = {"map_at_r": "MAP@R %", "r_precision": "R-precision %", "precision_at_1": "precision@1 %"}


def retrieval_table(setting: VerifiedSetting, found: pd.DataFrame) -> list[Table]:
    """One row a head: MAP@R and its difference to the baseline, R-precision, Recall@K.

    Args:
        setting: what was verified.
        found: see :func:`marginbench.reporting.verdicts.verdicts`.

    Returns:
        None or one; none where no run has measured it.
    """
    done = setting.done().dropna(subset=["map_at_r"])
    if done.empty:
        return []
    first = done.iloc[0]["entries"][0]["retrieval"]
    verdict_of = verdicts_by_label(found, setting.name, MAP_AT_R)
    frame = pd.DataFrame(
        [
            _cells(row, done[done["label"] == row.label], verdict_of)
            for row in compare(setting.rows, MAP_AT_R)
        ]
    )
    caption = (
        f"{setting.name}, retrieval: each of {first['queries']:,} images looked for among "
        f"{first['images']:,} of {first['classes']:,} classes{setting.of_first} by the cosine of "
        "the features (Musgrave et al., ECCV 2020, Section 3): mean over seeds, in brackets its "
        "95 % confidence interval; the difference to the baseline is that of MAP@R, in percentage "
        "points. Recall@1 is precision@1. A tie counts as wrong."
    )
    return [Table(f"retrieval-{slug(setting.name)}", caption, frame)]


def _cells(row: ComparedRow, done: pd.DataFrame, found: dict[str, Any]) -> dict[str, str]:
    recall = [
        {f"Recall@{int(k)} %": value for k, value in entry["retrieval"]["recall_at"] if k > 1}
        for entries in done["entries"]
        for entry in entries
    ]
    means = pd.DataFrame(recall).mean() if recall else pd.Series(dtype=float)
    return {
        "head": row.label,
        **{title: mean_text(done[name]) for name, title in NAMES.items()},
        **{title: f"{100 * value:.2f}" for title, value in means.items()},
        "seeds": row.seed_count,
        **verdict_cells(row.label, row.is_baseline, found),
    }


def mean_text(values: pd.Series) -> str:
    """The mean of fractions in percent, and in brackets its 95 % confidence interval."""
    if not len(values):
        return "–"
    interval = mean_interval(list(values)) if shows_spread(list(values)) else None
    return f"{100 * np.mean(values):.2f}{_brackets(interval)}"


def _brackets(interval: tuple[float, float] | None) -> str:
    if interval is None:
        return ""
    # Student's t knows no bounds; a share has them.
    low, high = (f"{100 * min(max(end, 0.0), 1.0):.2f}" for end in interval)
    return f" [{low}, {high}]"
