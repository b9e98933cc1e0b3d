"""Which cells a suite that is run until it is decided needs next, by its plan and its results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from marginbench.reporting.verdicts import (
    BETTER,
    DIVERGED,
    EQUAL,
    NO_RESULT,
    NOT_DECIDED,
    UNSTABLE,
    WORSE,
    verdicts,
)
from marginbench.runs.results import results_of
from marginbench.runs.seed_plan import SeedPlan
from marginbench.runs.suite_runs import SuiteRun

DECIDED = (BETTER, WORSE, EQUAL)


@dataclass(frozen=True)
class NextLook:
    """How far a suite is decided.

    Attributes:
        run: the suite with the cells that were needed so far and that the next look needs.
        found: the verdicts by which seeds are added, see
            :func:`marginbench.reporting.verdicts.verdicts`.
        seeds: of the next look, the lowest if settings stand apart; None where none is left.
    """

    run: SuiteRun
    found: pd.DataFrame
    seeds: int | None


def next_look(whole: SuiteRun) -> NextLook:
    """What is decided by the runs that have ended, and what the next look needs.

    A head that is decided or unstable, or whose runs all diverged, needs no seeds beyond its last
    look; the baseline needs those of all heads that do. A setting that has fewer seeds than the
    first look, whatever the suite is asked for, is left as it is.

    Args:
        whole: the suite with its plan, opened with the plan's most seeds.
    """
    plan = whole.plan or SeedPlan()
    frame = results_of(whole)
    found = verdicts(frame)
    found = found[found["decides"]]
    needed: dict[tuple[str, str], int] = {}
    pending = []
    for _, table in found[found["max_seeds"] > 0].groupby("setting", sort=False):
        rows = list(table.itertuples())
        # A look is taken by all heads of a table: none goes on while another lacks runs of it.
        look = min((_needed(row, plan) for row in rows if not _is_decided(row)), default=None)
        pending += [look] if look is not None else []
        for row in rows:
            seeds = _needed(row, plan)
            if look is not None and not _is_decided(row):
                seeds = min(seeds, look)
            for comparison in row.comparisons:
                needed[comparison, row.label] = seeds
                place = (comparison, row.baseline)
                needed[place] = max(seeds, needed.get(place, 0))
    not_needed = {
        row.key
        for row in frame.itertuples()
        if row.seed >= needed.get((row.comparison, row.label), plan.looks[0])
    }
    # Of a tuned suite, the trials are no rows of the frame, and are all needed.
    runs = [run for run in whole.runs if run.key not in not_needed]
    return NextLook(whole.with_runs(runs), found, min(pending, default=None))


def _is_decided(row: Any) -> bool:
    return row.verdict in DECIDED or (row.verdict in (UNSTABLE, DIVERGED) and row.look == row.look)


def _needed(row: Any, plan: SeedPlan) -> int:
    """The seeds of a head's last look, or of the next where there is one."""
    taken = sum(seeds <= row.look for seeds in plan.looks)
    return plan.looks[min(taken - 1 if _is_decided(row) else taken, len(plan.looks) - 1)]


def describe(found: pd.DataFrame) -> list[str]:
    """A line a setting: what is decided, and what is still looked for.

    Args:
        found: see :class:`NextLook`; or all verdicts of a frame.
    """
    lines = []
    for setting, rows in found[found["decides"]].groupby("setting", sort=False):
        parts = []
        for verdict in (BETTER, WORSE, EQUAL, UNSTABLE, DIVERGED):
            labels = rows.loc[rows["verdict"] == verdict, "label"]
            parts += [f"{verdict}: {', '.join(labels)}"] if len(labels) else []
        undecided = rows[rows["verdict"].isin([NOT_DECIDED, NO_RESULT])]
        for more, words in ((True, "still looked for"), (False, "not decided at the end")):
            chosen = undecided[(undecided["looks_left"] > 0) == more]
            parts += [f"{words}: {', '.join(chosen['label'])}"] if len(chosen) else []
        against = rows["baseline"].iloc[0]
        lines.append(f"{setting}, against {against}: {'; '.join(parts)}")
    return lines
