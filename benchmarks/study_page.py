"""The page of the study: the answer first, then what each part of it rests on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import numpy as np
import pandas as pd

from marginbench.reporting.compared_tables import LOWER_IS_BETTER, MEASURES
from marginbench.reporting.forest import forest_figure
from marginbench.reporting.opening import findings, points
from marginbench.reporting.sections import Figure, Table, sections_of
from marginbench.reporting.several_suites import together
from marginbench.reporting.significance import mean_interval, shows_spread
from marginbench.reporting.table_files import markdown
from marginbench.reporting.verdicts import (
    BETTER,
    DIVERGED,
    EQUAL,
    NOT_DECIDED,
    WORSE,
    finished_values,
    verdicts,
)
from marginbench.text import count, percent

from .publish import draw
from .study_questions import closed_and_open, fewer_trials
from .study_results import Measured, asked, columns_of, images_of

BUDGET = "tuning-budget"
LIMITS = """\
- Small networks, few training images, short runs, two CPU cores: a margin may do other things to a
  large network on a million faces.
- One search a head. Its luck is in no interval: the seeds are those of the final runs.
- Splits are drawn per seed from one set of images, so the intervals are of other images of the same
  kind. Omniglot's alphabets and LFW's people are fixed.
- An open set's search verifies a few classes of its own, two of six digits say: what is best for
  those need not be best for others.
- A range that is too narrow for a head holds it back; reports of the single suites name the values
  chosen at an edge. Learning-rate courses, batch size and augmentation were nobody's to choose.
"""


def write_page(found: Sequence[Measured], missing: Sequence[str], target: Path) -> Path:
    """Write README.md and the figures.

    Args:
        found: the data sets that are whole.
        missing: the names of the others.
        target: the folder.

    Returns:
        The page.
    """
    target.mkdir(parents=True, exist_ok=True)
    found = [asked(one) for one in found]
    frame = together({one.suite: one.tuned for one in found})
    decided = verdicts(frame)
    decided = decided.assign(setting=decided["setting"].map(images_of))
    parts = [
        "# Which margin wins, on equal terms?",
        "Every head had sixteen trials on images or classes that the final runs are not tested on; "
        "the values that did best there were run with ten seeds or more, each with a split of its "
        "own. Differences to tuned softmax in percentage points with their 95 % intervals; "
        "verdicts by paired tests over seeds, Holm-corrected over the heads, in planned looks.",
        *([f"Not whole yet, and not here: {', '.join(missing)}."] if missing else []),
        "## The answer",
        "\n".join(_in_short(decided)),
        "On each data set:",
        "\n".join(_answer(decided)),
        *_figure(forest_figure(decided), target),
        "## Every head on every data set",
        markdown(_overview(frame, decided)),
        *_over_data_sets(frame, target),
        "## What tuning gave",
        "Tuned minus own values on the test, in points, over the seeds that both have. An error "
        "that falls, an accuracy that rises is a gain.",
        _gains(found),
        "## Had softmax had fewer trials",
        fewer_trials(found),
        "## How many seeds it took",
        markdown(seeds_table(decided)),
        "## Closed and open sets",
        closed_and_open(frame, decided),
        "## What it does not show",
        LIMITS,
        "What each head could choose from, and what it chose: "
        + ", ".join(f"[{one.suite}](searches/{one.suite}.md)" for one in found)
        + ". All runs: [runs/](runs). Made by `make study`; "
        "`python -m benchmarks.study --page-only` makes the page anew from these files.",
    ]
    page = target / "README.md"
    page.write_text("\n\n".join(part.rstrip() for part in parts) + "\n", encoding="utf-8")
    return page


def write_search(one: Measured, target: Path) -> None:
    """Write searches/SUITE.md: what each head could choose from, and what it chose.

    Args:
        one: with the searches in its tuned frame.
        target: the page's folder.
    """
    folder = target / "searches"
    folder.mkdir(parents=True, exist_ok=True)
    (section,) = [found for found in sections_of(None) if found.name == "tuning"]
    content = section.content(one.tuned)
    parts = [f"# {one.suite}: the search", *content.text]
    # The others, a panel a parameter and head, are in the report of the suite.
    for figure in (found for found in content.figures if found.name == BUDGET):
        parts += _figure(replace(figure, name=f"{one.suite}-{figure.name}"), folder)
    for table in content.tables:
        parts += [f"*{table.caption}*", markdown(table.frame)]
    text = "\n\n".join(part.rstrip() for part in parts) + "\n"
    (folder / f"{one.suite}.md").write_text(text, encoding="utf-8")


def _in_short(decided: pd.DataFrame) -> list[str]:
    """Of closed and of open sets: on how many of them each head is better, and worse."""
    lines = []
    for kind, measure in (("Closed sets", "test_error"), ("Open sets", "verification_accuracy")):
        rows = decided[decided["measure"] == measure]
        if rows.empty:
            continue
        better, worse = (
            _numbers(rows.loc[rows["verdict"] == verdict, "label"]) for verdict in (BETTER, WORSE)
        )
        sets = count(rows["setting"].nunique(), "data set")
        lines.append(
            f"- **{kind}** ({sets}, {MEASURES[measure]}): better than softmax {better}. "
            f"Worse {worse}."
        )
    return lines


def _numbers(labels: pd.Series) -> str:
    """Of labels that stand once for each data set: "on 3: arcface, magface; on 1: hinge"."""
    numbers = labels.value_counts(sort=False)
    return (
        "; ".join(
            f"on {number}: {', '.join(sorted(found.index))}"
            for number, found in sorted(numbers.groupby(numbers), reverse=True)
        )
        or "on none"
    )


def _answer(decided: pd.DataFrame) -> list[str]:
    """A line a data set and measure, and below it one a verdict."""
    lines = []
    for subject, found in groupby(findings(decided), key=attrgetter("subject")):
        lines += [f"- {subject}", *(f"  - **{f.kind}**: {', '.join(f.items)}" for f in found)]
    return lines


def _figure(figure: Figure | None, target: Path) -> list[str]:
    if figure is None:
        return []
    return [f"![{figure.name}]({draw(figure, target)})", f"*{figure.caption}*"]


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


def _over_data_sets(frame: pd.DataFrame, target: Path) -> list[str]:
    """Ranks and the critical-difference diagram, of two data sets or more."""
    (section,) = [one for one in sections_of(None) if one.name == "data-sets"]
    content = section.content(frame)
    if not content.figures:
        return []
    parts = ["## Ranks", *content.text]
    for figure in content.figures:
        parts += _figure(figure, target)
    return parts + [text for table in content.tables for text in _table(table)]


def _table(table: Table) -> list[str]:
    if table.name != "ranks":
        return []
    return [f"*{table.caption}*", markdown(table.frame)]


def _gains(found: Sequence[Measured]) -> str:
    """Tuned minus own values: a table, and where tuning took something away."""
    lines: dict[str, dict[str, str]] = {}
    lost: dict[str, list[str]] = {}
    for one in found:
        own = {
            (title, head): finished_values(rows)
            for title, every in columns_of(one.own.assign(label=one.own["head"])).items()
            for head, rows in every.groupby("label")
        }
        for (setting, measure), every in columns_of(one.tuned).items():
            title = f"{setting}: {MEASURES[measure]}"
            for head, rows in every.groupby("label", sort=False):
                after, before = finished_values(rows), own.get(((setting, measure), head), {})
                changes = [after[seed] - before[seed] for seed in after if seed in before]
                low, high = mean_interval(changes) if shows_spread(changes) else (np.nan, np.nan)
                shown = points(float(np.mean(changes)), low, high) if changes else "–"
                lines.setdefault(str(head), {})[title] = shown
                is_worse = low > 0 if measure in LOWER_IS_BETTER else high < 0
                if is_worse:
                    lost.setdefault(title, []).append(str(head))
    table = markdown(pd.DataFrame({"head": head, **cells} for head, cells in lines.items()))
    if not lost:
        return table
    return (
        f"{table}\n\nA choice by validation images or classes can be worse on the test than the "
        "values that the search began with. Where the interval says so: "
        + "; ".join(f"{title}: {', '.join(heads)}" for title, heads in lost.items())
        + "."
    )


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
                "seeds of the decided": _span(seeds),
                "not decided at the end": _labels(heads, NOT_DECIDED),
                "diverged": _labels(heads, DIVERGED),
            }
        )
    return pd.DataFrame(rows)


def _labels(heads: pd.DataFrame, verdict: str) -> str:
    return ", ".join(heads.loc[heads["verdict"] == verdict, "label"])


def _span(seeds: pd.Series) -> str:
    if seeds.empty:
        return "–"
    least, most = int(seeds.min()), int(seeds.max())
    return str(least) if least == most else f"{least} to {most}"
