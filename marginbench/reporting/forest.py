"""The forest plot: every head's difference to the baseline with its interval, and its verdict."""

from __future__ import annotations

import textwrap
from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as FigureOfMatplotlib
from matplotlib.gridspec import SubplotSpec
from matplotlib.lines import Line2D

from marginbench.reporting.compared_tables import MEASURES
from marginbench.reporting.drawing import literal, new_figure, outside_legend, paper_style
from marginbench.reporting.sections import Figure, Interactive
from marginbench.reporting.verdicts import BETTER, EQUAL, NOT_DECIDED, UNSTABLE, WORSE

COLOURS = {
    BETTER: "#2077b4",
    WORSE: "#d1572b",
    EQUAL: "#77787b",
    NOT_DECIDED: "#a8a9ad",
    UNSTABLE: "#8b3fa8",
}
"""By verdict: told apart by the colour-blind too, and on white as on black."""
MARKERS = {BETTER: "o", WORSE: "s", EQUAL: "D", NOT_DECIDED: "o", UNSTABLE: "^"}
_SHAPES = {"o": "circle", "s": "square", "D": "diamond", "^": "triangle-up"}
ONE_COLUMN = 4
"""As many panels stand one below the other; of more, two side by side, or a page would not do."""
LABELS_INCHES = 0.9
"""Beside a panel, for the names of heads."""
TITLE_CHARACTERS = 13
"""Of a panel's title, in an inch."""
COLUMNS = ["panel", "label", "difference", "low", "high", "verdict", "seeds", "more_seeds"]


def forest_data(verdicts: pd.DataFrame) -> pd.DataFrame:
    """What the forest plot draws, the best head of each panel first.

    Args:
        verdicts: see :func:`marginbench.reporting.verdicts.verdicts`.

    Returns:
        The columns of :data:`COLUMNS`: difference and its interval in percentage points, low and
        high missing where there is none. A setting of whose heads none has an interval is left out.
    """
    rows = []
    for (setting, measure), group in verdicts.groupby(["setting", "measure"], sort=False):
        group = group[group["difference"].notna() & group["verdict"].isin(COLOURS)]
        if not group["low"].notna().any():
            continue
        lower_first = bool(group["lower_is_better"].iloc[0])
        best_first = group.sort_values("difference", ascending=lower_first)
        rows += [
            {
                "panel": f"{setting}: {MEASURES[str(measure)]}",
                "label": row.label,
                "difference": 100 * row.difference,
                "low": 100 * row.low,
                "high": 100 * row.high,
                "verdict": row.verdict,
                "seeds": row.seeds,
                "more_seeds": row.more_seeds if np.isfinite(row.more_seeds) else np.nan,
            }
            for row in best_first.itertuples()
        ]
    return pd.DataFrame(rows, columns=COLUMNS)


def forest_figure(verdicts: pd.DataFrame) -> Figure | None:
    """The forest plot of all settings, a panel each; None where no difference has an interval."""
    data = forest_data(verdicts)
    if data.empty:
        return None
    panels = list(data.groupby("panel", sort=False))
    baseline = ", ".join(dict.fromkeys(verdicts["baseline"].dropna().map(str)))
    columns = 1 if len(panels) <= ONE_COLUMN else 2
    figure, axes = _panels([len(rows) + 1.5 for _, rows in panels], columns)
    # One column of a page has room for one, whatever was asked for.
    across = cast(SubplotSpec, axes[0].get_subplotspec()).get_gridspec().ncols
    room = int((figure.get_figwidth() / across - LABELS_INCHES) * TITLE_CHARACTERS)
    # What is set after the axes were made needs the style again.
    with paper_style():
        for axis, (name, rows) in zip(axes, panels, strict=True):
            _draw(axis, rows)
            axis.set_title(literal(_broken(str(name), room)), loc="left", fontweight="bold")
        for axis in axes[-across:]:
            axis.set_xlabel(literal(_axis_title(baseline)))
        kinds = [kind for kind in COLOURS if kind in set(data["verdict"])]
        handles = [Line2D([], [], marker=MARKERS[k], linestyle="", **face(k)) for k in kinds]
    below = {} if columns == 1 else {"loc": "outside lower center", "ncols": len(kinds)}
    outside_legend(figure, handles, kinds, **below)
    caption = (
        f"Difference of every head to {baseline}, the mean over seeds with its 95 % confidence "
        "interval, the best first: of an error, left of the line is better; of an accuracy, right "
        "of it. The colour is the verdict, which counts the correction for all heads of a panel."
    )
    left_out = len(verdicts.drop_duplicates(["setting", "measure"])) - len(panels)
    if left_out:
        caption += " Settings with fewer than two seeds have no interval and are not drawn."
    interactive = Interactive(
        [_in_page(str(name), rows, _axis_title(baseline)) for name, rows in panels],
        [(kind, COLOURS[kind], ()) for kind in kinds],
    )
    return Figure("forest", caption, figure, data, interactive)


def _panels(heads: list[float], columns: int) -> tuple[FigureOfMatplotlib, list[Axes]]:
    """Panels with room for so many heads each."""
    if columns == 1:
        height = 0.3 * sum(heads) / len(heads) + 0.5
        return new_figure(len(heads), 1, width=8.4, height=height, ratios=heads)
    rows = -(-len(heads) // columns)
    figure, axes = new_figure(rows, columns, width=5.0, height=0.3 * max(heads) + 0.5)
    for axis in axes[len(heads) :]:
        figure.delaxes(axis)
    return figure, axes[: len(heads)]


def _broken(name: str, room: int) -> str:
    """A panel's name, the measure in a line of its own where both have no room in one."""
    if len(name) <= room:
        return name
    setting, _, measure = name.rpartition(": ")
    return "\n".join([*textwrap.wrap(setting, room), measure])


def _axis_title(baseline: str) -> str:
    return f"difference to {baseline} (points)"


def face(verdict: str) -> dict[str, Any]:
    """The colours of a verdict's marker, as matplotlib takes them."""
    colour = COLOURS[verdict]
    return {"color": colour, "markerfacecolor": "white" if verdict == NOT_DECIDED else colour}


def _draw(axis: Axes, rows: pd.DataFrame) -> None:
    for position, row in enumerate(rows.itertuples()):
        axis.plot([row.low, row.high], [position] * 2, color=COLOURS[row.verdict], linewidth=1.3)
        axis.plot(
            row.difference, position,
            marker=MARKERS[row.verdict], markersize=4.5, linestyle="", **face(row.verdict),
        )  # fmt: skip
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_yticks(range(len(rows)), [literal(label) for label in rows["label"]])
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.grid(visible=False, axis="y")


def _in_page(name: str, rows: pd.DataFrame, title: str) -> dict[str, Any]:
    kinds = list(COLOURS)
    colour = {
        "field": "verdict",
        "type": "nominal",
        "scale": {"domain": kinds, "range": [COLOURS[kind] for kind in kinds]},
        "legend": None,
    }
    shapes = [_SHAPES[MARKERS[kind]] for kind in kinds]
    y = {
        "field": "label",
        "type": "nominal",
        "scale": {"domain": rows["label"].tolist()},
        "axis": {"title": None, "labelLimit": 160},
    }

    def number(field: str, told: str) -> dict[str, Any]:
        return {"field": field, "title": told, "type": "quantitative", "format": "+.2f"}

    tooltip = [
        {"field": "label", "title": "head"},
        {"field": "verdict", "title": "verdict"},
        number("difference", "difference"),
        number("low", "95 % from"),
        number("high", "to"),
        {"field": "seeds", "title": "seeds", "type": "quantitative"},
        {"field": "more_seeds", "title": "seeds to decide", "type": "quantitative"},
    ]
    x = {"type": "quantitative", "axis": {"title": title, "tickCount": 6, "titleLimit": 230}}
    point = {
        "x": {"field": "difference"} | x,
        "y": y,
        "shape": {
            "field": "verdict",
            "scale": {"domain": kinds, "range": shapes},
            "legend": None,
        },
        "tooltip": tooltip,
    }
    return {
        "title": name,
        "height": {"step": 21},
        "transform": [
            {"filter": {"field": "panel", "equal": name}},
            {"filter": "indexof(shown, datum.verdict) >= 0"},
        ],
        "layer": [
            {
                "mark": {"type": "rule", "strokeWidth": 1},
                "encoding": {"x": {"datum": 0} | x, "color": {"value": "currentColor"}},
            },
            {
                "transform": [{"filter": "isValid(datum.low)"}],
                "mark": {"type": "rule", "strokeWidth": 2.5},
                "encoding": {"x": {"field": "low"} | x, "x2": {"field": "high"}, "y": y}
                | {"color": colour, "tooltip": tooltip},
            },
            {
                "transform": [{"filter": "datum.verdict != 'not decided'"}],
                "mark": {"type": "point", "filled": True, "size": 80},
                "encoding": point | {"color": colour},
            },
            {
                "transform": [{"filter": "datum.verdict == 'not decided'"}],
                "mark": {"type": "point", "filled": True, "size": 80, "strokeWidth": 2},
                "encoding": point | {"stroke": colour, "fill": {"value": "var(--paper)"}},
            },
        ],
    }
