"""What to do next: commands that finish what was asked for, add seeds, or search parameters."""

from __future__ import annotations

import math

import pandas as pd

from marginbench.reporting.decisions import FEWEST_SEEDS
from marginbench.reporting.fitting import what_helps
from marginbench.reporting.verdicts import NOT_DECIDED, plan_of
from marginbench.runs.cell_status import FINISHED, State

TYPED = "typed"
"""In ``attrs`` of a results frame: suite and options as typed on the command line, by suite."""
MANY = 4
"""Times the seeds that there are: heads that need more are not waited for by the others."""


def advice(results: pd.DataFrame, verdicts: pd.DataFrame) -> list[str]:
    """What helps heads that have not fitted their training images, and what to type next.

    Args:
        results: see :func:`marginbench.runs.results.results`.
        verdicts: of it, see :func:`marginbench.reporting.verdicts.verdicts`.

    Returns:
        Sentences; none where nothing is left to do.
    """
    typed = results.attrs.get(TYPED, {})
    following, searches = [], []
    for suite, rows in results.groupby("suite", sort=False):
        comparisons = set(rows["comparison"])
        own = verdicts[verdicts["comparisons"].map(comparisons.isdisjoint).eq(False)]
        words = typed.get(suite, suite)
        verb = "tune" if rows.get("search", pd.Series()).notna().any() else "run"
        option = _option(rows, own)
        if option is not None:
            following.append(f"`marginbench {verb} {words} {option}".rstrip() + "`")
        heads = own.loc[own["not_fitted"].eq(True), "head"].tolist()
        if heads or own["baseline_not_fitted"].any():
            baseline = rows.loc[rows["is_baseline"].astype(bool), "head"]
            heads = list(dict.fromkeys([*baseline, *heads]))
            searches.append(f"`marginbench tune {words} --only {','.join(heads)}`")
    texts = [what_helps(searches)] if searches else []
    return texts + ([f"Next: {' and '.join(following)}"] if following else [])


def _option(results: pd.DataFrame, verdicts: pd.DataFrame) -> str | None:
    """What is typed behind the suite; None where nothing is left to do."""
    if not results["state"].isin([*FINISHED, State.DAMAGED]).all():
        return ""
    undecided = verdicts[verdicts["verdict"] == NOT_DECIDED]
    if plan_of(results) is not None:
        return "--until-decided" if (undecided["looks_left"] > 0).any() else None
    # A setting with fewer seeds than the others has them from the suite, whatever is asked for.
    undecided = undecided[undecided["asked"] == verdicts["asked"].max()]
    asked = verdicts["asked"].max()
    needed = {
        max(asked + 1, row.asked + row.more_seeds)
        for row in undecided.itertuples()
        if math.isfinite(row.more_seeds)
    }
    if undecided["more_seeds"].isna().any():
        needed.add(max(asked + 1, FEWEST_SEEDS))
    soon = [seeds for seeds in needed if seeds <= MANY * asked]
    return f"--seeds {int(max(soon, default=min(needed)))}" if needed else None
