"""The answer: the verdict on every head in words, then the numbers behind it."""

from __future__ import annotations

from typing import Any

import pandas as pd

from marginbench import SectionContent, Table, section
from marginbench.reporting.compared_tables import MEASURES, TEST_ERROR
from marginbench.reporting.comparison_table import ComparedRow, compare
from marginbench.reporting.proportions import wilson_interval
from marginbench.reporting.verdict_words import (
    chance_text,
    sentence,
    verdict_cells,
    verdicts_by_label,
)
from marginbench.reporting.verdicts import verdicts
from marginbench.runs.conditions import settings
from marginbench.runs.results import only_verified
from marginbench.text import percent, slug


@section("comparison", title="Comparison", order=10)
def comparison(results: pd.DataFrame) -> SectionContent:
    """For every setting the verdicts, and a table: test error, gap, difference, seeds."""
    found = verdicts(results)
    tables = [_verdict_table(str(name[0]), str(name[1]), rows) for name, rows in _groups(found)]
    for name, rows in settings(results):
        if only_verified(rows):
            continue
        known = verdicts_by_label(found, name, TEST_ERROR)
        compared = compare(rows)
        images = rows["test_images"].dropna()
        frame = pd.DataFrame([_cells(row, known, images) for row in compared])
        caption = _caption(name, rows, compared)
        tables.append(Table(f"comparison-{slug(name)}", caption, frame))
    return SectionContent(text=[EXPLANATION] if tables else [], tables=tables)


EXPLANATION = (
    "Errors are those of the last iterate, never the best of many evaluations on the test set; the "
    "margin is off in testing. Heads that share a seed saw the same batches in the same order and "
    "started from the same backbone, so differences are taken seed by seed. A head is called "
    "better or worse where a paired t-test, Holm-corrected over all heads of the table, bears it "
    "at 5 %; equal where the corrected interval lies within the difference that the suite counts "
    "as none. Else it is not decided; with the number of further seeds that is shown it would be "
    "with a chance of 80 %, if mean and spread are those seen so far. A head that diverged in more "
    "seeds than the baseline and is not worse is unstable: neither better nor equal."
)


def _groups(found: pd.DataFrame) -> Any:
    return found.groupby(["setting", "measure"], sort=False)


def _verdict_table(name: str, measure: str, rows: pd.DataFrame) -> Table:
    frame = pd.DataFrame(
        {
            "head": row.label,
            "verdict": row.verdict,
            "in words": sentence(row),
            "P(better)": chance_text(row),
        }
        for row in rows.itertuples()
    )
    first = rows.iloc[0]
    caption = f"{name}: {MEASURES[measure]}, each head against {first['baseline']}."
    if first["equal_within"] > 0:
        caption += f" Equal is within ±{100 * first['equal_within']:.2f} percentage points."
    if first["max_seeds"] > 0:
        caption += (
            f" Seeds were added in planned looks, up to {int(first['max_seeds'])}, each with its "
            "share of the 5 %; the bracketed interval of a head that stopped early has no "
            "correction for that, and its difference is more likely too large than too small."
        )
    caption += (
        " In brackets the 95 % interval of the difference by itself. P(better): the chance that "
        "one run of the head beats the baseline's run of the same seed, with its 95 % interval; a "
        "diverged run has lost. Few seeds leave this interval wide: after three that are all won, "
        "1.00 [0.29, 1.00], even a head that loses more often than not may be behind it."
    )
    kind = "" if measure == TEST_ERROR else f"{slug(MEASURES[measure])}-"
    return Table(f"verdicts-{kind}{slug(name)}", caption, frame)


def _cells(row: ComparedRow, found: dict[str, Any], images: pd.Series) -> dict[str, str]:
    low, high = wilson_interval(row.mean_test_error, int(images.iloc[0]) if len(images) else 0)
    cells = verdict_cells(row.label, row.is_baseline, found)
    return {
        "head": row.label,
        "verdict": cells.pop("verdict"),
        "test error %": _mean_and_deviation(row.test_errors),
        "test set 95 %": f"[{percent(low)}, {percent(high)}]" if low == low else "–",
        "train error %": _mean_and_deviation(row.train_errors),
        "gap": percent(row.mean_gap),
        "seeds": row.seed_count,
        **cells,
    }


def _mean_and_deviation(values: list[float]) -> str:
    if not values:
        return "–"
    series = pd.Series(values)
    spread = f" ± {100 * series.std():.2f}" if len(values) > 1 else ""
    return f"{100 * series.mean():.2f}{spread}"


def _caption(name: str, rows: pd.DataFrame, compared: list[ComparedRow]) -> str:
    counts = rows["test_images"].dropna()
    images = f" on {int(counts.iloc[0]):,} test images" if len(counts) else ""
    caption = (
        f"{name}: test and training error{images}, mean ± standard deviation over seeds; beside it "
        "the 95 % interval that another draw of as many test images would have (Wilson's, the same "
        "for any number of seeds); the gap is test minus training error; the difference to the "
        "baseline in percentage points, with its 95 % confidence interval by itself; p is "
        "corrected over the heads."
    )
    if not any(row.is_baseline and row.test_errors for row in compared):
        caption += " No finished baseline: nothing can be compared with it."
    by_means = rows[rows["tested_by_class_means"].eq(True)]["label"].unique()
    if len(by_means):
        caption += (
            f" Without logits, and tested by the nearest class mean of the training features: "
            f"{', '.join(by_means)}."
        )
    devices = sorted(rows["device"].dropna().unique())
    if len(devices) > 1:
        caption += f" The runs come from different devices: {', '.join(devices)}."
    return caption
