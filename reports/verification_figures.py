"""The figures of verification: accuracy, ROC, histograms of scores, accuracy by PCA dimension."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from marginbench import Figure
from marginbench.evaluation.ranked_rates import rates
from marginbench.reporting.comparison_table import ComparedRow
from marginbench.reporting.curves import (
    CURVE_COLUMNS,
    Axis,
    band_over_seeds,
    draw_curves,
    interactive_curves,
)
from marginbench.reporting.drawing import (
    LabelStyle,
    clear_unused,
    literal,
    new_figure,
    outside_legend,
)
from marginbench.reporting.verification_results import VerifiedSetting
from marginbench.text import slug

HISTOGRAM_COLUMNS = 4
HISTOGRAM_BINS = 60
GRID_POINTS = 100
ROC = "ROC"
DIMENSION = "Accuracy by dimension"


def accuracy_figure(setting: VerifiedSetting, compared: list[ComparedRow]) -> Figure:
    """A dot a seed, a bar at the mean."""
    shown = [row for row in compared if row.test_errors]
    figure, (axis,) = new_figure(1, 1, width=6.4, height=0.32 * len(shown) + 1.1)
    for position, row in enumerate(shown):
        values = [100 * value for value in row.test_errors]
        colour = "tab:gray" if row.is_baseline else "tab:blue"
        axis.scatter(values, [position] * len(values), s=18, color=colour, alpha=0.5, linewidths=0)
        axis.scatter(sum(values) / len(values), position, s=60, marker="|", color=colour)
    axis.set_yticks(range(len(shown)), [row.label for row in shown])
    axis.invert_yaxis()
    axis.set_xlabel("verification accuracy (%)")
    caption = (
        f"{setting.name}: verification accuracy, a dot a seed, a bar at the mean; the baseline in "
        "grey."
    )
    data = pd.DataFrame(
        {"label": row.label, "verification accuracy": value}
        for row in shown
        for value in row.test_errors
    )
    return Figure(f"verification-{slug(setting.name)}", caption, figure, data)


def curve_figure(setting: VerifiedSetting, styles: Mapping[str, LabelStyle]) -> Figure:
    """TAR against FAR on a logarithmic scale, the mean over seeds."""
    different = min(
        int((~setting.tested_pairs(row).same).sum()) for row in setting.done().itertuples()
    )
    grid = np.geomspace(1 / different, 1, GRID_POINTS)
    points = []
    for label, group in setting.done().groupby("label", sort=False):
        curves = []
        for row in group.itertuples():
            pairs = setting.tested_pairs(row)
            curve = rates(pairs.scores, pairs.same)
            # The highest TAR whose FAR is at most that: a staircase, as the pairs have it.
            index = np.searchsorted(curve.far[0], grid * (1 + 1e-12), side="right") - 1
            curves.append(100 * curve.tar[0][index])
        points += [
            {"panel": ROC, "label": label, "x": far} | band_over_seeds(pd.Series(values))
            for far, values in zip(grid, np.array(curves).T, strict=True)
        ]
    caption = (
        f"{setting.name}: receiver operating characteristic, mean over seeds, down to one false "
        f"acceptance among {different:,} different pairs; its left end rests on few pairs."
    )
    x = Axis("false acceptance rate", logarithmic=True, limits=(1 / different, 1))
    y = Axis("true acceptance rate (%)", limits=(0, 101))
    return _one_panel(f"verification-roc-{slug(setting.name)}", caption, points, styles, x, y)


def histogram_figure(setting: VerifiedSetting) -> Figure:
    """Scores of same and different pairs, a panel a head, of the first finished seed."""
    rows = list(setting.done().drop_duplicates("label").itertuples())
    columns = min(HISTOGRAM_COLUMNS, len(rows))
    figure, axes = new_figure(-(-len(rows) // columns), columns, width=3.3, height=2.6)
    data = []
    for axis, row in zip(axes, rows, strict=False):
        pairs = setting.tested_pairs(row)
        edges = np.linspace(pairs.scores.min(), pairs.scores.max() + 1e-9, HISTOGRAM_BINS + 1)
        for kind, name, colour in (
            (pairs.same, "same", "tab:blue"),
            (~pairs.same, "different", "tab:orange"),
        ):
            heights, _, _ = axis.hist(
                pairs.scores[kind],
                bins=edges,
                density=True,
                alpha=0.6,
                color=colour,
                label=name,
                linewidth=0,
            )
            data += [
                {"label": row.label, "pairs": name, "from": low, "to": high, "density": height}
                for low, high, height in zip(edges, edges[1:], heights, strict=False)
            ]
        thresholds = [value for entry in row.entries for value in entry["thresholds"]]
        axis.axvline(float(np.mean(thresholds)), color="black", linewidth=0.8, linestyle=":")
        axis.set_title(literal(row.label))
        axis.set_yticks([])
        axis.set_xlabel("score")
    clear_unused(axes, len(rows))
    handles, labels = axes[0].get_legend_handles_labels()
    outside_legend(figure, handles, labels, title="pairs")
    caption = (
        f"{setting.name}: scores (cosines) of same and of different pairs, each kind scaled to the "
        "same area; the dotted line is the threshold, the mean over folds; one seed."
    )
    name = f"verification-scores-{slug(setting.name)}"
    return Figure(name, caption, figure, pd.DataFrame(data))


def dimension_figure(setting: VerifiedSetting, styles: Mapping[str, LabelStyle]) -> Figure:
    """Accuracy against the number of principal components kept, the mean over seeds."""
    points = []
    for label, group in setting.done().groupby("label", sort=False):
        known = pd.DataFrame(
            [
                {"dimension": dimension, "accuracy": 100 * accuracy}
                for entries in group["entries"]
                for entry in entries
                for dimension, accuracy in entry["by_dimension"]
            ],
            columns=["dimension", "accuracy"],
        )
        points += [
            {"panel": DIMENSION, "label": label, "x": dimension} | band_over_seeds(values)
            for dimension, values in known.groupby("dimension")["accuracy"]
        ]
    caption = (
        f"{setting.name}: accuracy against the dimension that PCA leaves, fitted on the folds that "
        "choose the threshold only; mean over seeds."
    )
    x = Axis("principal components kept", logarithmic=True, base=2)
    y = Axis("verification accuracy (%)")
    return _one_panel(f"verification-dimension-{slug(setting.name)}", caption, points, styles, x, y)


def _one_panel(
    name: str,
    caption: str,
    points: list[dict[str, Any]],
    styles: Mapping[str, LabelStyle],
    x: Axis,
    y: Axis,
) -> Figure:
    curves = pd.DataFrame(points, columns=CURVE_COLUMNS)
    figure, (axis,) = new_figure(1, 1, width=7.2, height=4.2)
    draw_curves(axis, curves, styles)
    axis.set_xscale("log", base=x.base)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    if x.limits and y.limits:
        axis.set(xlim=x.limits, ylim=y.limits)
    axis.set(xlabel=x.title, ylabel=y.title)
    outside_legend(figure, *axis.get_legend_handles_labels())
    panels = dict.fromkeys(curves["panel"].unique(), (x, y))
    return Figure(name, caption, figure, curves, interactive_curves(curves, styles, panels))
