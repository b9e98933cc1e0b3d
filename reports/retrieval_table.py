"""Retrieval among the images of a set of pairs, as a table of the verification section."""

from __future__ import annotations

import numpy as np
import pandas as pd

from marginbench import Table
from marginbench.reporting.comparison_table import ComparedRow, compare
from marginbench.reporting.significance import mean_interval, shows_spread
from marginbench.reporting.verification_results import VerifiedSetting
from marginbench.text import slug

NAMES = {"map_at_r": "MAP@R %", "r_precision": "R-precision %", "precision_at_1": "precision@1 %"}


def retrieval_table(setting: VerifiedSetting) -> list[Table]:
    """One row a head: MAP@R and its difference to the baseline, R-precision, Recall@K.

    Returns:
        None or one; none where no run has measured it.
    """
    done = setting.done().dropna(subset=["map_at_r"])
    if done.empty:
        return []
    first = done.iloc[0]["entries"][0]["retrieval"]
    frame = pd.DataFrame(
        [_cells(row, done[done["label"] == row.label]) for row in compare(setting.rows, "map_at_r")]
    )
    caption = (
        f"{setting.name}: retrieval, each of {first['queries']:,} images looked for among "
        f"{first['images']:,} of {first['classes']:,} classes by the cosine of the features "
        "(Musgrave et al., ECCV 2020, Section 3): mean over seeds, in brackets its 95 % confidence "
        "interval; the difference to the baseline is that of MAP@R, in percentage points. "
        "Recall@1 is precision@1. A tie counts as wrong."
    )
    return [Table(f"retrieval-{slug(setting.name)}", caption, frame)]


def _cells(row: ComparedRow, done: pd.DataFrame) -> dict[str, str]:
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
        "difference": difference_text(row),
        "p (Holm)": "" if row.p_value is None else f"{row.p_value:.3f}",
    }


def difference_text(row: ComparedRow) -> str:
    """The mean difference to the baseline in percentage points, its interval, and the mark."""
    if row.mean_difference is None:
        return "baseline" if row.is_baseline else "–"
    text = f"{100 * row.mean_difference:+.2f}{_brackets(row.interval, '+')}"
    return text + (" *" if row.significant else "")


def mean_text(values: pd.Series) -> str:
    """The mean of fractions in percent, and in brackets its 95 % confidence interval."""
    if not len(values):
        return "–"
    interval = mean_interval(list(values)) if shows_spread(list(values)) else None
    return f"{100 * np.mean(values):.2f}{_brackets(interval)}"


def _brackets(interval: tuple[float, float] | None, sign: str = "") -> str:
    if interval is None:
        return ""
    low, high = (f"{100 * end:{sign}.2f}" for end in interval)
    return f" [{low}, {high}]"
