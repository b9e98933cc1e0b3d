"""The page of the study: the answer first, then what each part of it rests on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from marginbench.reporting.compared_tables import LOWER_IS_BETTER, MEASURES, compared_tables
from marginbench.reporting.forest import forest_figure
from marginbench.reporting.opening import findings, points
from marginbench.reporting.sections import Figure, Table, sections_of
from marginbench.reporting.several_suites import together
from marginbench.reporting.significance import mean_interval, shows_spread
from marginbench.reporting.table_files import markdown
from marginbench.reporting.verdicts import BETTER, NOT_DECIDED, WORSE, finished_values, verdicts
from marginbench.runs.cell_status import FINISHED
from marginbench.runs.results import results
from marginbench.text import count, percent

DOTS_PER_INCH = 110
LIMITS = """\
- Small networks, few training images, short runs, two CPU cores: a margin may do other things to a
  large network on a million faces, and no face was looked at here.
- One search a head. Its luck is in no interval: the seeds are those of the final runs.
- Splits are drawn per seed from one set of images, so the intervals are of other images of the same
  kind. Omniglot's alphabets are fixed.
- A range that is too narrow for a head holds it back; reports of the single suites name the values
  chosen at an edge. Learning-rate courses, batch size and augmentation were nobody's to choose.
"""


@dataclass(frozen=True)
class Measured:
    """A data set of the study.

    Attributes:
        suite: its name.
        tuned: the final runs.
        own: the runs with the heads' own values.
        fewer: softmax's final runs after fewer trials; each a frame of
            :func:`marginbench.runs.results.results`.
    """

    suite: str
    tuned: pd.DataFrame
    own: pd.DataFrame
    fewer: pd.DataFrame

    @property
    def is_whole(self) -> bool:
        """Whether every run has ended."""
        ended = [state.value for state in FINISHED]
        return all(part["state"].isin(ended).all() for part in (self.tuned, self.own, self.fewer))


def measured(suite: str, runs: Path, fewer: Path) -> Measured:
    """What has been run of a data set.

    Raises:
        UserError: there is no search.
    """
    return Measured(
        suite,
        tuned=results(suite, runs, tuned=True),
        own=results(suite, runs),
        fewer=results(suite, fewer, tuned=True, only=["softmax"]),
    )


def write_page(found: Sequence[Measured], missing: Sequence[str], target: Path) -> Path:
    """Write README.md, results.csv and the figures.

    Args:
        found: the data sets that are whole.
        missing: the names of the others.
        target: the folder.

    Returns:
        The page.
    """
    target.mkdir(parents=True, exist_ok=True)
    frame = together({one.suite: one.tuned for one in found})
    decided = verdicts(frame)
    files = ["label", "seed", "key", "state", *MEASURES]
    frame[["setting", *files]].to_csv(target / "results.csv", index=False)
    parts = [
        "# Which margin wins, on equal terms?",
        "Every head had sixteen trials on images or classes that the final runs are not tested on; "
        "the values with the lowest error were run with ten seeds or more, each with a split of "
        "its own. Differences to tuned softmax in percentage points with their 95 % intervals; "
        "verdicts by paired tests over seeds, Holm-corrected over the heads, in planned looks.",
        *([f"Not whole yet, and not here: {', '.join(missing)}."] if missing else []),
        "## The answer",
        "\n".join(
            f"- {one.subject}: **{one.kind}**: {', '.join(one.items)}" for one in findings(decided)
        ),
        *_figure(forest_figure(decided), target),
        "## Every head on every data set",
        markdown(_overview(frame, decided)),
        *_over_data_sets(frame, target),
        "## What tuning gave",
        "Tuned minus own values on the test, in points, over the seeds that both have. An error "
        "that falls, an accuracy that rises is a gain.",
        markdown(_gains(found)),
        "## Had softmax had fewer trials",
        _fewer_text(found),
        "## How many seeds it took",
        markdown(_seeds(decided)),
        "## Closed and open sets",
        _agreement(frame),
        "## What it does not show",
        LIMITS,
        "All runs: [results.csv](results.csv). Made by `make study`.",
    ]
    page = target / "README.md"
    page.write_text("\n\n".join(part.rstrip() for part in parts) + "\n", encoding="utf-8")
    return page


def _figure(figure: Figure | None, target: Path) -> list[str]:
    if figure is None:
        return []
    figure.figure.savefig(target / f"{figure.name}.png", dpi=DOTS_PER_INCH)
    return [f"![{figure.name}]({figure.name}.png)", f"*{figure.caption}*"]


def _columns(frame: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
    """The rows of each setting and measure, under a short title."""
    return {
        (table.setting.partition(": ")[2] or table.setting, table.measure): table.rows
        for table in compared_tables(frame)
    }


def _overview(frame: pd.DataFrame, decided: pd.DataFrame) -> pd.DataFrame:
    """Means in percent, with the verdict against softmax."""
    known = {
        (row.setting.partition(": ")[2] or row.setting, row.measure, row.label): row.verdict
        for row in decided.itertuples()
    }
    marks = {BETTER: " (better)", WORSE: " (worse)"}
    lines: dict[str, dict[str, str]] = {}
    for (setting, measure), rows in _columns(frame).items():
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
    if table.name == "pairs-over-data-sets":
        return []
    return [f"*{table.caption}*", markdown(table.frame)]


def _gains(found: Sequence[Measured]) -> pd.DataFrame:
    lines: dict[str, dict[str, str]] = {}
    for one in found:
        own = {
            (title, head): finished_values(rows)
            for title, every in _columns(one.own.assign(label=one.own["head"])).items()
            for head, rows in every.groupby("label")
        }
        for (setting, measure), every in _columns(one.tuned).items():
            for head, rows in every.groupby("label", sort=False):
                after, before = finished_values(rows), own.get(((setting, measure), head), {})
                changes = [after[seed] - before[seed] for seed in after if seed in before]
                low, high = mean_interval(changes) if shows_spread(changes) else (np.nan, np.nan)
                shown = points(float(np.mean(changes)), low, high) if changes else "–"
                lines.setdefault(str(head), {})[f"{setting}: {MEASURES[measure]}"] = shown
    return pd.DataFrame({"head": head, **cells} for head, cells in lines.items())


def _fewer_text(found: Sequence[Measured]) -> str:
    """How often heads with all trials beat softmax with all trials, and with few."""
    counts = {"all": 0, "few": 0}
    of, changed = 0, []
    for one in found:
        others = one.tuned[one.tuned["head"] != "softmax"]
        # The same comparison: only what softmax was chosen from differs.
        columns = ["setting", "comparison", "conditions", "max_seeds", "first_look", "spending"]
        softmax = one.tuned[one.tuned["head"] == "softmax"].drop_duplicates("setting")
        fewer = one.fewer.drop(columns=columns[1:]).merge(softmax[columns], on="setting")
        replayed = pd.concat([fewer[one.tuned.columns], others], ignore_index=True)
        fixed = {"max_seeds": np.nan, "first_look": np.nan, "spending": None}
        shared = one.tuned[one.tuned["seed"].isin(one.fewer["seed"])]
        replayed = replayed[replayed["seed"].isin(one.fewer["seed"])]
        full, few = (
            verdicts(frame.assign(**fixed)).set_index(["setting", "measure", "label"])["verdict"]
            for frame in (shared, replayed)
        )
        counts["all"] += int((full == BETTER).sum())
        counts["few"] += int((few == BETTER).sum())
        of += len(full)
        changed += [
            f"{key[2]} on {key[0]} ({MEASURES[key[1]]}): {full[key]} → {few[key]}"
            for key in full.index
            if key in few.index and full[key] != few[key]
        ]
    text = (
        "Earlier comparisons gave softmax a few trials and a margin head many. With softmax chosen "
        f"from its first three trials, and the others from sixteen as above, "
        f"{counts['few']} of {of} comparisons over ten seeds are won against softmax; with sixteen "
        f"trials for both, {counts['all']}."
    )
    if changed:
        text += " Verdicts that differ: " + "; ".join(changed) + "."
    return text


def _seeds(decided: pd.DataFrame) -> pd.DataFrame:
    rows = decided[decided["decides"]]
    return pd.DataFrame(
        {
            "data set": setting.partition(": ")[2] or setting,
            "decided": f"{int((own['verdict'] != NOT_DECIDED).sum())} of {len(own)} heads",
            "seeds of the decided": _span(own.loc[own["verdict"] != NOT_DECIDED, "seeds"]),
            "not decided at the end": ", ".join(own.loc[own["verdict"] == NOT_DECIDED, "label"]),
        }
        for setting, own in rows.groupby("setting", sort=False)
    )


def _span(seeds: pd.Series) -> str:
    if seeds.empty:
        return "–"
    least, most = int(seeds.min()), int(seeds.max())
    return str(least) if least == most else f"{least} to {most}"


def _agreement(frame: pd.DataFrame) -> str:
    """Rank correlation of the heads between closed and open settings."""
    means = {
        title: rows.groupby("label")["value"].mean() * (1 if title[1] in LOWER_IS_BETTER else -1)
        for title, rows in _columns(frame).items()
    }
    closed = [title for title in means if title[1] == "test_error"]
    opened = [title for title in means if title[1] in ("verification_accuracy", "map_at_r")]
    lines = []
    for first in closed:
        for second in opened:
            both = pd.concat([means[first], means[second]], axis=1, keys=["a", "b"]).dropna()
            if len(both) > 2:
                rho = stats.spearmanr(both["a"], both["b"])
                lines.append(
                    f"- {first[0]} and {second[0]} ({MEASURES[second[1]]}): Spearman's ρ "
                    f"{rho.statistic:+.2f}, {count(len(both), 'head')}, p = {rho.pvalue:.3f}"
                )
    if not lines:
        return "No closed and open set are both whole yet."
    return (
        "Whether the heads that err least on classes they know are those that do best on classes "
        "they do not: rank correlation of the heads' means, +1 if the order is the same.\n\n"
        + "\n".join(lines)
    )
