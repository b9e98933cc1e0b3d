"""Curves with a line a head, drawn twice from one frame: in matplotlib, and in the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from marginbench.reporting.drawing import LabelStyle, literal
from marginbench.reporting.sections import Interactive

CURVE_COLUMNS = ["panel", "label", "x", "y", "low", "high", "seeds"]
"""Of a frame of curves: a row a point. low and high bound its band, and may be missing."""
FEW_LINES = 4
"""With more lines a still picture has no bands: they would cover one another."""


@dataclass(frozen=True)
class Axis:
    """An axis of curves.

    Attributes:
        title: with the unit.
        logarithmic: whether its scale is.
        limits: lowest and highest value; None for those of the data.
        base: of the logarithm's ticks.
    """

    title: str
    logarithmic: bool = False
    limits: tuple[float, float] | None = None
    base: int = 10

    def in_page(self) -> dict[str, Any]:
        """What Vega-Lite calls scale and axis."""
        scale: dict[str, Any] = {"nice": self.limits is None and not self.logarithmic}
        axis: dict[str, Any] = {"title": self.title, "labelOverlap": True}
        if self.logarithmic:
            scale |= {"type": "log", "base": self.base}
            axis |= {"format": "~g", "tickCount": 6}
        else:
            scale |= {"zero": False}
        if self.limits is not None:
            scale |= {"domain": list(self.limits)}
        return {"type": "quantitative", "scale": scale, "axis": axis}


def band_over_seeds(values: pd.Series) -> dict[str, float]:
    """y, low, high and seeds of one point: mean, lowest and highest value over the seeds.

    Low and high are missing where a single seed stands behind the point.
    """
    known = values.dropna().astype(float)
    alone = len(known) < 2
    return {
        "y": float(known.mean()),
        "low": float("nan") if alone else float(known.min()),
        "high": float("nan") if alone else float(known.max()),
        "seeds": len(known),
    }


def draw_curves(axis: Axes, curves: pd.DataFrame, styles: Mapping[str, LabelStyle]) -> None:
    """The lines of one panel, and their bands where they are few.

    Args:
        axis: where to draw.
        curves: rows of one panel, the columns of :data:`CURVE_COLUMNS`.
        styles: of the labels.
    """
    groups = list(curves.groupby("label", sort=False))
    for label, line in groups:
        style = styles[str(label)]
        axis.plot(
            line["x"], line["y"],
            color=style.colour, linestyle=style.dash, linewidth=1.1, label=literal(str(label)),
        )  # fmt: skip
        if len(groups) <= FEW_LINES and line["low"].notna().any():
            axis.fill_between(
                line["x"], line["low"], line["high"], color=style.colour, alpha=0.15, linewidth=0
            )


def interactive_curves(
    curves: pd.DataFrame, styles: Mapping[str, LabelStyle], axes: Mapping[str, tuple[Axis, Axis]]
) -> Interactive:
    """The same curves for the page: lines switch on and off, the pointer shows the values.

    Args:
        curves: the columns of :data:`CURVE_COLUMNS`.
        styles: of the labels.
        axes: the x and y axis by panel.
    """
    labels = list(dict.fromkeys(curves["label"].map(str)))
    series = [(label, *styles[label].in_page) for label in labels]
    many_seeds = bool(curves["low"].notna().any())
    panels = [_panel(name, *axes[name], series, many_seeds) for name in axes]
    return Interactive(panels, series)


def _panel(
    name: str,
    x: Axis,
    y: Axis,
    series: list[tuple[str, str, tuple[int, ...]]],
    bands: bool,
) -> dict[str, Any]:
    labels = [label for label, _, _ in series]
    colour = _by_label(labels, [colour for _, colour, _ in series])
    dash = _by_label(labels, [list(dash) for _, _, dash in series])
    along = {"field": "x"} | x.in_page()
    tooltip = [
        {"field": "label", "title": "head"},
        {"field": "x", "title": x.title, "type": "quantitative", "format": ".5~g"},
        {"field": "y", "title": y.title, "type": "quantitative", "format": ".4~g"},
    ]
    layers: list[dict[str, Any]] = []
    if bands:
        band_of = [
            {"field": field, "title": title, "type": "quantitative", "format": ".4~g"}
            for field, title in (("low", "lowest seed"), ("high", "highest seed"))
        ]
        tooltip += [*band_of, {"field": "seeds", "title": "seeds", "type": "quantitative"}]
        layers.append(
            {
                "transform": [{"filter": "isValid(datum.low)"}],
                "mark": {
                    "type": "area",
                    "opacity": {"expr": f"length(shown) <= {FEW_LINES} ? 0.2 : 0.05"},
                    "clip": True,
                },
                "encoding": {
                    "x": along,
                    "y": {"field": "low"} | y.in_page(),
                    "y2": {"field": "high"},
                    "color": colour,
                },
            }
        )
    upwards = {"field": "y"} | y.in_page()
    layers.append(
        {
            "mark": {"type": "line", "strokeWidth": 1.8, "clip": True},
            "encoding": {"x": along, "y": upwards, "color": colour, "strokeDash": dash},
        }
    )
    only_there = {"param": "pointed", "empty": False, "value": 1}
    nearest = {"type": "point", "on": "pointerover", "nearest": True, "clear": "pointerout"}
    layers.append(
        {
            "params": [{"name": "pointed", "select": nearest}],
            "mark": {"type": "point", "filled": True, "size": 60, "clip": True},
            "encoding": {
                "x": along,
                "y": upwards,
                "color": colour,
                "opacity": {"condition": only_there, "value": 0},
                "tooltip": tooltip,
            },
        }
    )  # fmt: skip
    return {
        "title": name,
        "height": 270,
        "transform": [
            {"filter": {"field": "panel", "equal": name}},
            {"filter": "indexof(shown, datum.label) >= 0"},
        ],
        "layer": layers,
    }


def _by_label(labels: list[str], values: list[Any]) -> dict[str, Any]:
    scale = {"domain": labels, "range": values}
    return {"field": "label", "type": "nominal", "scale": scale, "legend": None}
