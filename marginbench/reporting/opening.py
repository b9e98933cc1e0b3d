"""The report's opening lines: which heads of a setting are better, worse, equal, or not decided."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from marginbench.reporting.compared_tables import MEASURES
from marginbench.reporting.sections import Finding
from marginbench.reporting.verdicts import BETTER, EQUAL, NOT_DECIDED, VERDICTS, WORSE
from marginbench.text import count


def findings(verdicts: pd.DataFrame) -> list[Finding]:
    """A finding for each verdict that a setting's heads have, the largest difference first.

    Args:
        verdicts: see :func:`marginbench.reporting.verdicts.verdicts`.
    """
    return [
        Finding(_subject(rows), kind, _items(kind, of_kind))
        for _, rows in verdicts.groupby(["setting", "measure"], sort=False)
        for kind in VERDICTS
        if not (of_kind := rows[rows["verdict"] == kind]).empty
    ]


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
    ordered = list(rows.loc[size.sort_values(ascending=False, kind="stable").index].itertuples())
    if kind == NOT_DECIDED and rows["more_seeds"].isna().all():
        return [f"{count(len(rows), 'head')}: too few seeds to say how many it takes"]
    items = [_item(kind, row) for row in ordered]
    if kind == EQUAL:
        items[-1] += f": within ±{100 * ordered[0].equal_within:.2f}"
    return items


def _item(kind: str, row: Any) -> str:
    if kind in (BETTER, WORSE, EQUAL):
        return f"{row.label} {points(row.difference, row.low, row.high)}"
    if kind == NOT_DECIDED and not math.isnan(row.more_seeds):
        endless = math.isinf(row.more_seeds)
        more = "over 10,000 seeds" if endless else f"+{count(int(row.more_seeds), 'seed')}"
        return f"{row.label} ({more})"
    return str(row.label)
