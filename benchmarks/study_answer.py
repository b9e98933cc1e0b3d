"""The study's answer at a glance: every head on every data set, as a table and as a figure."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from marginbench.reporting.compared_tables import MEASURES
from marginbench.reporting.drawing import literal, new_figure, outside_legend, paper_style
from marginbench.reporting.forest import COLOURS, MARKERS, face, forest_data
from marginbench.reporting.sections import Figure
from marginbench.reporting.verdicts import BETTER, NOT_DECIDED, WORSE

FAR = 3.0
"""An interval that begins beyond three times what all others reach would leave them no room."""


def best_first(decided: pd.DataFrame) -> list[str]:
    """The heads by data sets on which they are better less those on which they are worse.

    Args:
        decided: verdicts, one a head and data set.
    """
    score = (decided["verdict"] == BETTER).astype(int) - (decided["verdict"] == WORSE).astype(int)
    found = score.groupby(decided["label"], sort=False).sum()
    return [str(label) for label in found.sort_values(ascending=False, kind="stable").index]


def answer_table(decided: pd.DataFrame) -> pd.DataFrame:
    """A row a head, a column a data set: difference to softmax in points, and the verdict.

    Args:
        decided: verdicts, one a head and data set. A difference without a word is not decided.
    """
    lines: dict[str, dict[str, str]] = {label: {} for label in best_first(decided)}
    for row in decided.itertuples():
        number = "" if pd.isna(row.difference) else f"{100 * row.difference:+.2f}"
        known = "" if row.verdict == NOT_DECIDED else row.verdict
        shown = f"{number} {known}".strip().replace("-", "−")
        lines[row.label][f"{row.setting}: {MEASURES[row.measure]}"] = shown
    columns = dict.fromkeys(column for line in lines.values() for column in line)
    frame = pd.DataFrame.from_dict(lines, orient="index", columns=list(columns))
    return frame.fillna("–").rename_axis("head").reset_index()


def answer_figure(decided: pd.DataFrame) -> Figure | None:
    """All data sets side by side, a row a head; None without an interval.

    Args:
        decided: verdicts, one a head and data set.
    """
    data = forest_data(decided)
    if data.empty:
        return None
    heads = best_first(decided)
    panels = list(data.groupby("panel", sort=False))
    figure, axes = new_figure(1, len(panels), width=2.0, height=0.33 * len(heads) + 1.2)
    with paper_style():
        for axis, (name, rows) in zip(axes, panels, strict=True):
            _draw(axis, rows, heads)
            setting, _, measure = str(name).rpartition(": ")
            axis.set_title(literal(setting.replace(", ", "\n")), fontsize=6.5)
            words = literal(f"{measure} (points)".replace(" ", "\n"))
            axis.set_xlabel(words, fontsize=6.5)
            axis.tick_params(axis="x", labelsize=6)
        for axis in axes[1:]:
            axis.set_yticklabels([])
        kinds = [kind for kind in COLOURS if kind in set(data["verdict"])]
        handles = [Line2D([], [], marker=MARKERS[k], linestyle="", **face(k)) for k in kinds]
    outside_legend(figure, handles, kinds, loc="outside lower center", ncols=len(kinds))
    caption = (
        "Difference of every head to tuned softmax in points, the mean over seeds with its 95 % "
        "interval: of an error, left of the line is better; of an accuracy, right of it. The "
        "colour is the verdict. An arrow and a number stand for a head too far away to be drawn."
    )
    return Figure("answer", caption, figure, data)


def _draw(axis: Axes, rows: pd.DataFrame, heads: list[str]) -> None:
    around_zero = (rows["low"] <= 0) & (rows["high"] >= 0)
    rows = rows.assign(
        nearest=rows[["low", "high"]].abs().min(axis=1).mask(around_zero, 0.0),
        reach=rows[["low", "high"]].abs().max(axis=1).fillna(rows["difference"].abs()),
    )
    far = [
        row.nearest > FAR * rows.loc[rows["label"] != row.label, "reach"].max()
        for row in rows.itertuples()
    ]
    near = rows[[not one for one in far]]
    ends = [0.0, *near[["low", "high", "difference"]].stack()]
    margin = 0.08 * (max(ends) - min(ends))
    axis.set_xlim(min(ends) - margin, max(ends) + margin)
    axis.axvline(0, color="black", linewidth=0.8)
    for row, away in zip(rows.itertuples(), far, strict=True):
        position, colour = heads.index(row.label), COLOURS[row.verdict]
        if away:
            right = row.difference > 0
            text = f"{row.difference:+.0f} →" if right else f"← {row.difference:+.0f}"
            axis.text(
                0.98 if right else 0.02, position, text.replace("-", "−"),
                transform=axis.get_yaxis_transform(), ha="right" if right else "left",
                va="center", fontsize=6, color=colour,
            )  # fmt: skip
            continue
        axis.plot([row.low, row.high], [position] * 2, color=colour, linewidth=1.1)
        axis.plot(
            row.difference, position,
            marker=MARKERS[row.verdict], markersize=3.5, linestyle="", **face(row.verdict),
        )  # fmt: skip
    axis.set_yticks(range(len(heads)), [literal(head) for head in heads])
    axis.set_ylim(len(heads) - 0.5, -0.5)
    axis.grid(visible=False, axis="y")
