"""The comparison table: error of every head, and what it gains on the baseline."""

from __future__ import annotations

import pandas as pd

from marginbench import SectionContent, Table, section
from marginbench.reporting.comparison_table import ComparedRow, compare
from marginbench.runs.conditions import settings
from marginbench.runs.results import only_verified
from marginbench.text import percent, slug


@section("comparison", title="Comparison", order=10)
def comparison(results: pd.DataFrame) -> SectionContent:
    """One table a setting: test error, gap, difference to the baseline, seeds."""
    tables = []
    for name, rows in settings(results):
        if only_verified(rows):
            continue
        compared = compare(rows)
        frame = pd.DataFrame([_cells(row) for row in compared])
        tables.append(Table(f"comparison-{slug(name)}", _caption(name, rows, compared), frame))
    return SectionContent(text=[EXPLANATION] if tables else [], tables=tables)


EXPLANATION = (
    "Errors are those of the last iterate, never the best of many evaluations on the test set; the "
    "margin is off in testing. Heads that share a seed saw the same batches in the same order and "
    "started from the same backbone, so differences are taken seed by seed. A difference is marked "
    "* where a paired t-test, Holm-corrected over all heads of the table, gives p < 0.05; without "
    "a mark, these seeds do not bear a claim."
)


def _cells(row: ComparedRow) -> dict[str, str]:
    return {
        "head": row.label,
        "test error %": _mean_and_deviation(row.test_errors),
        "train error %": _mean_and_deviation(row.train_errors),
        "gap": percent(row.mean_gap),
        "seeds": row.seed_count,
        "difference": _difference(row),
        "p (Holm)": "" if row.p_value is None else f"{row.p_value:.3f}",
    }


def _mean_and_deviation(values: list[float]) -> str:
    if not values:
        return "–"
    series = pd.Series(values)
    spread = f" ± {100 * series.std():.2f}" if len(values) > 1 else ""
    return f"{100 * series.mean():.2f}{spread}"


def _difference(row: ComparedRow) -> str:
    if row.is_baseline:
        return "baseline"
    if row.mean_difference is None:
        return "–"
    text = f"{100 * row.mean_difference:+.2f}"
    if row.interval is not None:
        low, high = row.interval
        text += f" [{100 * low:+.2f}, {100 * high:+.2f}]"
    return text + (" *" if row.significant else "")


def _caption(name: str, rows: pd.DataFrame, compared: list[ComparedRow]) -> str:
    counts = rows["test_images"].dropna()
    images = f" on {int(counts.iloc[0]):,} test images" if len(counts) else ""
    caption = (
        f"{name}: test and training error{images}, mean ± standard deviation over seeds; "
        "the gap is test minus training error; the difference to the baseline in percentage "
        "points, with its 95 % confidence interval."
    )
    if not any(row.is_baseline and row.test_errors for row in compared):
        caption += " No finished baseline: nothing can be compared with it."
    devices = sorted(rows["device"].dropna().unique())
    if len(devices) > 1:
        caption += f" The runs come from different devices: {', '.join(devices)}."
    return caption
