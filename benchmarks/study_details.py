"""The study's details: every interval, rank, choice and verdict that its page sums up."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import numpy as np
import pandas as pd

from marginbench.reporting.compared_tables import MEASURES
from marginbench.reporting.forest import forest_figure
from marginbench.reporting.opening import findings, points
from marginbench.reporting.sections import Figure, SectionContent, sections_of
from marginbench.reporting.table_files import markdown
from marginbench.reporting.verdict_words import p_text
from marginbench.reporting.verdicts import (
    BETTER,
    DIVERGED,
    EQUAL,
    NOT_DECIDED,
    UNSTABLE,
    WORSE,
    finished_values,
)
from marginbench.text import percent

from .publish import draw
from .study_questions import Replay
from .study_results import Measured, columns_of

NAME = "details.md"
BUDGET = "tuning-budget"


def write_details(
    frame: pd.DataFrame,
    decided: pd.DataFrame,
    gains: pd.DataFrame,
    replay: Replay,
    orders: pd.DataFrame,
    over: SectionContent,
    target: Path,
) -> None:
    """Write details.md and its figure.

    Args:
        frame: the final runs of all data sets.
        decided: their verdicts.
        gains, replay, orders: see :mod:`benchmarks.study_questions`.
        over: see :func:`over_data_sets`.
        target: the page's folder.
    """
    ranks = [table for table in over.tables if table.name == "ranks"]
    parts = [
        "# The study: every number",
        "The answer in short: [README.md](README.md). Differences are to tuned softmax, in "
        "percentage points, with their 95 % intervals.",
        "## Every head on every data set",
        "\n".join(_answer(decided)),
        *figure_lines(forest_figure(decided), target),
        "Means in percent:",
        markdown(_overview(frame, decided)),
        *(text for one in ranks for text in ("## Ranks", f"*{one.caption}*", markdown(one.frame))),
        "## What tuning gave",
        "Tuned minus own values on the test, in points, over the seeds that both have. An error "
        "that falls, an accuracy that rises is a gain.",
        markdown(_gains_table(gains)),
        *_lost(gains),
        "## Had softmax had fewer trials",
        "Verdicts that differ: " + ("; ".join(replay.changed) or "none") + ".",
        "## How many seeds it took",
        markdown(seeds_table(decided)),
        "## Closed and open sets",
        markdown(_orders_table(orders)) if len(orders) else "None of both are whole yet.",
    ]
    text = "\n\n".join(part.rstrip() for part in parts) + "\n"
    (target / NAME).write_text(text, encoding="utf-8")


def write_search(one: Measured, target: Path) -> None:
    """Write searches/SUITE.md: what each head could choose from, and what it chose.

    Args:
        one: with the searches in its tuned frame.
        target: the page's folder.
    """
    folder = target / "searches"
    folder.mkdir(parents=True, exist_ok=True)
    content = _content("tuning", one.tuned)
    parts = [f"# {one.suite}: the search", *content.text]
    # The others, a panel a parameter and head, are in the report of the suite.
    for figure in (found for found in content.figures if found.name == BUDGET):
        parts += figure_lines(replace(figure, name=f"{one.suite}-{figure.name}"), folder)
    for table in content.tables:
        parts += [f"*{table.caption}*", markdown(table.frame)]
    text = "\n\n".join(part.rstrip() for part in parts) + "\n"
    (folder / f"{one.suite}.md").write_text(text, encoding="utf-8")


def over_data_sets(frame: pd.DataFrame) -> SectionContent:
    """Ranks and the critical-difference diagram, of two data sets or more."""
    return _content("data-sets", frame)


def figure_lines(figure: Figure | None, target: Path) -> list[str]:
    """A figure, written to a folder, and its caption; nothing of None."""
    if figure is None:
        return []
    return [f"![{figure.name}]({draw(figure, target)})", f"*{figure.caption}*"]


def seeds_table(decided: pd.DataFrame) -> pd.DataFrame:
    """A row a data set: of how many heads the verdict is known, and with how many seeds.

    Args:
        decided: see :func:`marginbench.reporting.verdicts.verdicts`.
    """
    rows = []
    for setting, heads in decided[decided["decides"]].groupby("setting", sort=False):
        seeds = heads.loc[heads["verdict"].isin([BETTER, WORSE, EQUAL]), "seeds"]
        rows.append(
            {
                "data set": setting,
                "decided": f"{len(seeds)} of {len(heads)} heads",
                "seeds of the decided": span(seeds),
                "not decided at the end": _labels(heads, NOT_DECIDED),
                "unstable": _labels(heads, UNSTABLE),
                "diverged": _labels(heads, DIVERGED),
            }
        )
    return pd.DataFrame(rows)


def span(seeds: pd.Series) -> str:
    """The least and the most of numbers: "10 to 30"; "–" of none."""
    if seeds.empty:
        return "–"
    least, most = int(seeds.min()), int(seeds.max())
    return str(least) if least == most else f"{least} to {most}"


def _content(section: str, frame: pd.DataFrame) -> SectionContent:
    (found,) = [one for one in sections_of(None) if one.name == section]
    return found.content(frame)


def _answer(decided: pd.DataFrame) -> list[str]:
    """A line a data set and measure, and below it one a verdict."""
    lines = []
    for subject, found in groupby(findings(decided), key=attrgetter("subject")):
        lines += [f"- {subject}", *(f"  - **{f.kind}**: {', '.join(f.items)}" for f in found)]
    return lines


def _overview(frame: pd.DataFrame, decided: pd.DataFrame) -> pd.DataFrame:
    """Means in percent, with the verdict against softmax."""
    known = {(row.setting, row.measure, row.label): row.verdict for row in decided.itertuples()}
    marks = {BETTER: " (better)", WORSE: " (worse)"}
    lines: dict[str, dict[str, str]] = {}
    for (setting, measure), rows in columns_of(frame).items():
        for label, group in rows.groupby("label", sort=False):
            values = list(finished_values(group).values())
            mark = marks.get(known.get((setting, measure, label), ""), "")
            shown = f"{percent(float(np.mean(values)))}{mark}" if values else "–"
            lines.setdefault(str(label), {})[f"{setting}: {MEASURES[measure]} %"] = shown
    return pd.DataFrame({"head": label, **cells} for label, cells in lines.items())


def _gains_table(gains: pd.DataFrame) -> pd.DataFrame:
    lines: dict[str, dict[str, str]] = {}
    for row in gains.itertuples():
        shown = points(row.change, row.low, row.high) if np.isfinite(row.change) else "–"
        lines.setdefault(row.head, {})[f"{row.setting}: {MEASURES[row.measure]}"] = shown
    return pd.DataFrame({"head": head, **cells} for head, cells in lines.items())


def _lost(gains: pd.DataFrame) -> list[str]:
    lost = gains[gains["lost"]]
    if lost.empty:
        return []
    each = (
        f"{setting}: {MEASURES[measure]}: {', '.join(rows['head'])}"
        for (setting, measure), rows in lost.groupby(["setting", "measure"], sort=False)
    )
    return [
        "A choice by validation images or classes can be worse on the test than the values that "
        f"the search began with. Where the interval says so: {'; '.join(each)}."
    ]


def _orders_table(orders: pd.DataFrame) -> pd.DataFrame:
    """Rank correlations, a row each."""
    return pd.DataFrame(
        {
            "closed set": row.closed,
            "open set": f"{row.open}: {MEASURES[row.measure]}",
            "Spearman's ρ": f"{row.rho:+.2f}".replace("-", "−"),
            "heads": row.heads,
            "p": p_text(row.p),
            "p (Holm)": p_text(row.p_corrected),
        }
        for row in orders.itertuples()
    )


def _labels(heads: pd.DataFrame, verdict: str) -> str:
    return ", ".join(heads.loc[heads["verdict"] == verdict, "label"])
