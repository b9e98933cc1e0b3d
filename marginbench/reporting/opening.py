"""The report's opening lines: which heads are better, worse, equal, or not decided."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from marginbench.reporting.compared_tables import MEASURES
from marginbench.reporting.fitting import training_errors
from marginbench.reporting.sections import Finding
from marginbench.reporting.verdict_words import diverged_text
from marginbench.reporting.verdicts import EQUAL, NO_RESULT, NOT_DECIDED, UNSTABLE, VERDICTS
from marginbench.text import count, percent

NOT_FITTED = "not fitted"
"""The kind of the finding that names the heads that have not fitted their training images."""


def findings(verdicts: pd.DataFrame) -> list[Finding]:
    """A finding for each verdict that a setting's heads have, the largest difference first.

    Before them, a baseline that has not fitted its training images, for then no verdict counts;
    after them, the heads that have not.

    Args:
        verdicts: see :func:`marginbench.reporting.verdicts.verdicts`.
    """
    found = []
    for _, rows in verdicts.groupby(["setting", "measure"], sort=False):
        subject, first = _subject(rows), rows.iloc[0]
        if first["baseline_not_fitted"]:
            error = percent(first["baseline_train_error"], 1)
            item = (
                f"the baseline {first['baseline']}: training error {error} %, so that no verdict "
                "below says anything of the margins"
            )
            found.append(Finding(subject, NOT_FITTED, [item]))
        found += [
            Finding(subject, kind, _items(kind, of_kind))
            for kind in VERDICTS
            if not (of_kind := rows[rows["verdict"] == kind]).empty
        ]
        marked = rows[rows["not_fitted"].eq(True)]
        if len(marked):
            items = [f"{row.label} ({training_errors(row)})" for row in marked.itertuples()]
            found.append(Finding(subject, NOT_FITTED, items))
    return found


def points(difference: float, low: float, high: float) -> str:
    """A difference in percentage points with its interval: "−0.85 [−1.13, −0.56]"."""
    text = f"{100 * difference:+.2f}"
    if not (math.isnan(low) or math.isnan(high)):
        text += f" [{100 * low:+.2f}, {100 * high:+.2f}]"
    return text.replace("-", "−")


def _subject(rows: pd.DataFrame) -> str:
    first = rows.iloc[0]
    # A head of which all seeds diverged has none; that it diverged is said below.
    counted = rows.loc[rows["seeds"] > 0, "seeds"]
    least, most = (int(counted.min()), int(counted.max())) if len(counted) else (0, 0)
    seeds = count(most, "seed") if least == most else f"{least} to {count(most, 'seed')}"
    measure = MEASURES[first["measure"]]
    return f"{first['setting']}: {measure} against {first['baseline']}, {seeds}"


def _items(kind: str, rows: pd.DataFrame) -> list[str]:
    size = rows["difference"].abs()
    ordered = rows.loc[size.sort_values(ascending=False, kind="stable").index]
    items = [_item(kind, row) for row in ordered.itertuples()]
    if kind == EQUAL:
        items[-1] += f": within ±{100 * ordered['equal_within'].iloc[0]:.2f} points"
    return items


def _item(kind: str, row: Any) -> str:
    """ "softmax 1.93 % → arcface 1.52 %, −0.41 [−0.83, +0.01] points (+2 seeds)"."""
    if not row.seeds:
        return row.label if kind == NO_RESULT else f"{row.label} ({diverged_text(row)})"
    # The means of the seeds that both finished, as the difference is.
    text = (
        f"{row.baseline} {percent(row.baseline_value)} % → {row.label} {percent(row.value)} %, "
        f"{points(row.difference, row.low, row.high)} points"
    )
    if kind == UNSTABLE:
        text += f" ({diverged_text(row)})"
    elif kind == NOT_DECIDED:
        text += f" ({_more(row.more_seeds)})"
    return text


def _more(seeds: float) -> str:
    if math.isnan(seeds):
        return "too few seeds to say how many it takes"
    return "over 10,000 seeds" if math.isinf(seeds) else f"+{count(int(seeds), 'seed')}"
