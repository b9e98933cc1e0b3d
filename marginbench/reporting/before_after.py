"""Two sets of runs of one suite side by side: before and after a change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from marginbench.reporting.compared_tables import LOWER_IS_BETTER, MEASURES
from marginbench.reporting.opening import points
from marginbench.reporting.sections import Finding, SectionContent, Table
from marginbench.reporting.significance import (
    LEVEL,
    holm,
    mean_interval,
    paired_p_value,
    shows_spread,
)
from marginbench.reporting.verdict_words import p_text
from marginbench.runs.conditions import settings
from marginbench.runs.results import finished_runs
from marginbench.text import count, percent, slug

COLUMNS = [
    "setting",
    "measure",
    "label",
    "before",
    "after",
    "change",
    "low",
    "high",
    "seeds",
    "equal_seeds",
    "p_corrected",
    "verdict",
]


def changes(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """Each head of each setting, after minus before, by the seeds that are finished in both.

    Args:
        before, after: see :func:`marginbench.runs.results.results`, of the same suite.

    Returns:
        Columns: setting, measure (of MEASURES), label; before, after:
        means over the shared seeds, fractions; change, low, high: mean difference and its own 95 %
        interval, NaN where there is none; seeds: shared, equal_seeds: of these, with the very same
        value; p_corrected: of the paired t-test, Holm over all rows of the frame; verdict:
        "better", "worse", "same" (every seed's value is), "not decided".
    """
    earlier = dict(settings(before))
    rows = []
    for name, own in settings(after):
        if name not in earlier:
            continue
        for measure in MEASURES:
            old, new = _values(earlier[name], measure), _values(own, measure)
            for label in dict.fromkeys(own["label"]):
                shared = [key for key in new if key[0] == label and key in old]
                if shared:
                    pairs = [(old[key], new[key]) for key in shared]
                    rows.append(_row(pairs) | {"setting": name, "measure": measure, "label": label})
    frame = pd.DataFrame(rows, columns=[*COLUMNS, "p"])
    frame["p_corrected"] = holm(frame["p"].tolist())
    lower = frame["measure"].isin(LOWER_IS_BETTER)
    gained = (frame["change"] < 0) == lower
    decided = frame["p_corrected"] < LEVEL
    same = frame["equal_seeds"] == frame["seeds"]
    frame["verdict"] = np.select(
        [same, decided & gained, decided], ["same", "better", "worse"], "not decided"
    )
    return frame[COLUMNS]


def changes_content(before: pd.DataFrame, after: pd.DataFrame, name: str) -> SectionContent:
    """The section that ``report --compare`` adds.

    Args:
        before, after: as for :func:`changes`.
        name: of the folder of the runs before.
    """
    found = changes(before, after)
    text = [f"Before: {name}. {_account(before, after)}"]
    told = [
        Finding(f"{setting}: {MEASURES[str(measure)]}, after against before", kind, items)
        for (setting, measure), rows in found.groupby(["setting", "measure"], sort=False)
        for kind in ("better", "worse", "not decided", "same")
        if (items := [_item(row) for row in rows[rows["verdict"] == kind].itertuples()])
    ]
    tables = [
        Table(
            f"changes-{slug(str(setting))}-{slug(str(measure))}",
            f"{setting}: {MEASURES[str(measure)]} before and after, in percent, over the "
            "seeds finished in both; the change in percentage points with its own 95 % interval; p "
            "is Holm-corrected over all rows of this section.",
            pd.DataFrame([_cells(row) for row in rows.itertuples()]),
        )
        for (setting, measure), rows in found.groupby(["setting", "measure"], sort=False)
    ]
    return SectionContent(text=text, findings=told, tables=tables)


def _values(rows: pd.DataFrame, measure: str) -> dict[tuple[str, int], float]:
    done = finished_runs(rows).dropna(subset=[measure])
    keys = zip(done["label"], done["seed"], strict=True)
    return dict(zip(keys, done[measure].astype(float), strict=True))


def _row(pairs: list[tuple[float, float]]) -> dict[str, Any]:
    before, after = np.array(pairs).T
    differences = after - before
    low, high = mean_interval(differences) if shows_spread(differences) else (np.nan, np.nan)
    return {
        "before": before.mean(),
        "after": after.mean(),
        "change": differences.mean(),
        "low": low,
        "high": high,
        "seeds": len(pairs),
        "equal_seeds": int((differences == 0).sum()),
        "p": paired_p_value(differences),
    }


def _account(before: pd.DataFrame, after: pd.DataFrame) -> str:
    """Which cells are in both, and whether the same code made them."""
    old, new = (
        finished_runs(frame).drop_duplicates("key").set_index("key") for frame in (before, after)
    )
    shared = [key for key in new.index if key in old.index]
    code = sum(old.at[key, "code"] != new.at[key, "code"] for key in shared)
    return (
        f"{count(len(shared), 'cell')} finished in both with the same key, {code} of them by other "
        f"code; {count(len(old), 'cell')} finished before, {len(new):,} after."
    )


def _item(row: Any) -> str:
    return (
        row.label
        if row.verdict == "same"
        else f"{row.label} {points(row.change, row.low, row.high)}"
    )


def _cells(row: Any) -> dict[str, str]:
    return {
        "head": row.label,
        "before %": percent(row.before),
        "after %": percent(row.after),
        "change": points(row.change, row.low, row.high),
        "seeds": f"{row.seeds}, {row.equal_seeds} equal" if row.equal_seeds else str(row.seeds),
        "p (Holm)": p_text(row.p_corrected),
        "verdict": row.verdict,
    }
