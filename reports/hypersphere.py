"""What each part of a cell changes beside the others: main effects, and interactions of two."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns

from marginbench import Figure, SectionContent, Table, section
from marginbench.reporting.drawing import literal, new_figure
from marginbench.reporting.significance import LEVEL
from marginbench.reporting.verdict_words import p_text
from marginbench.text import count, slug

from .effects import Design, designs, interactions, main_effects

DECIDED, OPEN = "#2077b4", "#a8a9ad"
"""Of an effect that a corrected test bears, and of one that none does."""


@section("hypersphere", title="Main effects and interactions", order=6)
def hypersphere(results: pd.DataFrame) -> SectionContent:
    """For every experiment in which two parts or more vary: effects with intervals, a heat map."""
    text, tables, figures = [], [], []
    for design in designs(results):
        effects, pairs = main_effects(design), interactions(design)
        text.append(_summary(design, effects, pairs))
        tables.append(_table(design, effects))
        if effects["low"].notna().any():
            figures.append(_forest(design, effects))
        if len(pairs):
            figures.append(_heat_map(design, pairs))
    return SectionContent(text=text, tables=tables, figures=figures)


def _summary(design: Design, effects: pd.DataFrame, pairs: pd.DataFrame) -> str:
    combinations = design.runs.groupby(list(design.levels), observed=True).ngroups
    possible = int(np.prod([len(levels) for levels in design.levels.values()]))
    baseline = ", ".join(levels[0] for levels in design.levels.values())
    decided = int((effects["p"] <= LEVEL).sum())
    together = int((pairs["p"] <= LEVEL).sum()) if len(pairs) else 0
    return (
        f"{design.name}: {combinations} of {possible} combinations have finished runs; the "
        f"baseline is {baseline}. After correction, {decided} of "
        f"{count(len(effects), 'main effect')} and {together} of "
        f"{count(len(pairs), 'interaction')} differ from 0."
    )


def _table(design: Design, effects: pd.DataFrame) -> Table:
    rows = [
        {
            "part": row.factor,
            "level": row.level,
            "alone": _signed(row.alone),
            "main effect": _signed(row.effect),
            "95 % interval": _interval(row.low, row.high),
            "p (Holm)": p_text(row.p),
            "seeds": str(row.seeds),
        }
        for row in effects.itertuples()
    ]
    caption = (
        f"{design.name}: change of the test error, in percentage points, below 0 is better. Alone: "
        "with everything else the baseline's. Main effect: of the additive model of all parts, "
        "fitted to all runs of a seed; mean and 95 % interval over seeds by themselves, p "
        "corrected for all rows."
    )
    return Table(f"main-effects-{slug(design.name)}", caption, pd.DataFrame(rows))


def _forest(design: Design, effects: pd.DataFrame) -> Figure:
    figure, (axis,) = new_figure(1, 1, width=7.0, height=0.32 * len(effects) + 0.9)
    for place, row in enumerate(effects.itertuples()):
        colour = DECIDED if row.p <= LEVEL else OPEN
        if not np.isnan(row.low):
            axis.plot([row.low, row.high], [place, place], color=colour, linewidth=1.4)
        axis.plot(row.effect, place, marker="o", markersize=4, color=colour)
    names = [literal(f"{row.factor}: {row.level}") for row in effects.itertuples()]
    axis.set_yticks(range(len(effects)), names)
    axis.invert_yaxis()
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_xlabel("change of the test error (percentage points)")
    caption = (
        f"{design.name}: main effect of each part on the test error beside all others, the mean "
        "over seeds with its 95 % interval; left of the line is better. Blue: differs from 0 after "
        "correction for all of them."
    )
    return Figure(f"main-effects-{slug(design.name)}", caption, figure, effects)


def _heat_map(design: Design, pairs: pd.DataFrame) -> Figure:
    names = [f"{factor}: {level}" for factor, level in design.departures]
    matrix = pd.DataFrame(np.nan, index=names, columns=names)
    marks = pd.DataFrame("", index=names, columns=names)
    for row in pairs.itertuples():
        one, other = f"{row.factor}: {row.level}", f"{row.other_factor}: {row.other_level}"
        # The later one is the row: the lower triangle.
        matrix.loc[other, one] = row.interaction
        marks.loc[other, one] = _signed(row.interaction) + ("*" if row.p <= LEVEL else "")
    matrix, marks = matrix.dropna(how="all"), marks.loc[matrix.dropna(how="all").index]
    kept = matrix.dropna(axis=1, how="all").columns
    matrix, marks = matrix[kept], marks[kept]
    size = 0.5 * len(kept)
    figure, (axis,) = new_figure(1, 1, width=size + 4.0, height=0.5 * len(matrix) + 2.4)
    largest = float(np.nanmax(np.abs(matrix.to_numpy()))) or 1.0
    sns.heatmap(
        matrix,
        ax=axis,
        vmin=-largest,
        vmax=largest,
        cmap="vlag",
        annot=marks.to_numpy(),
        fmt="",
        annot_kws={"size": 6},
        xticklabels=[literal(name) for name in matrix.columns],
        yticklabels=[literal(name) for name in matrix.index],
        cbar_kws={"label": "interaction (percentage points)"},
    )
    axis.grid(visible=False)
    axis.tick_params(axis="x", rotation=40)
    for label in axis.get_xticklabels():
        label.set_horizontalalignment("right")
    caption = (
        f"{design.name}: interaction of two parts, y_ab − y_a − y_b + y_0 of the test error, the "
        "mean over seeds, everything else the baseline's. Blue, below 0: together they lower the "
        "error more than the sum of both alone. *: differs from 0 after correction for all pairs."
    )
    return Figure(f"interactions-{slug(design.name)}", caption, figure, pairs)


def _signed(value: float) -> str:
    # What rounds to 0 from below has no sign.
    return "–" if np.isnan(value) else f"{round(value, 2) + 0.0:+.2f}"


def _interval(low: float, high: float) -> str:
    return "–" if np.isnan(low) else f"{low:+.2f} to {high:+.2f}"
