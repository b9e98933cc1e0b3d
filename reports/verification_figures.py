"""The figures of verification: accuracy, ROC, histograms of scores, accuracy by PCA dimension."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from marginbench import Figure
from marginbench.evaluation.receiver_operating import rates
from marginbench.reporting.comparison_table import ComparedRow
from marginbench.reporting.drawing import LabelStyle, clear_unused, literal, new_figure
from marginbench.reporting.verification_results import VerifiedSetting
from marginbench.text import slug

HISTOGRAM_COLUMNS = 4
HISTOGRAM_BINS = 60


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
    return Figure(f"verification-{slug(setting.name)}", caption, figure)


def curve_figure(setting: VerifiedSetting, styles: Mapping[str, LabelStyle]) -> Figure:
    """TAR against FAR on a logarithmic scale, the mean over seeds."""
    figure, (axis,) = new_figure(1, 1, width=7.6, height=4.6)
    groups = list(setting.done().groupby("label", sort=False))
    different = min(
        int((~setting.tested_pairs(row).same).sum()) for row in setting.done().itertuples()
    )
    grid = np.geomspace(1 / different, 1, 200)
    for label, group in groups:
        curves = []
        for row in group.itertuples():
            pairs = setting.tested_pairs(row)
            curve = rates(pairs.scores, pairs.same)
            # The highest TAR whose FAR is at most that: a staircase, as the pairs have it.
            index = np.searchsorted(curve.far[0], grid * (1 + 1e-12), side="right") - 1
            curves.append(curve.tar[0][index])
        style = styles[label]
        axis.plot(
            grid,
            100 * np.mean(curves, axis=0),
            color=style.colour,
            linestyle=style.dash,
            linewidth=1.5,
            label=literal(label),
        )
    axis.set_xscale("log")
    axis.set_xlim(1 / different, 1)
    axis.set_ylim(0, 101)
    axis.set_xlabel("false acceptance rate")
    axis.set_ylabel("true acceptance rate (%)")
    figure.legend(loc="outside right center", frameon=False)
    caption = (
        f"{setting.name}: receiver operating characteristic, mean over seeds, down to one false "
        f"acceptance among {different:,} different pairs; its left end rests on few pairs."
    )
    return Figure(f"verification-roc-{slug(setting.name)}", caption, figure)


def histogram_figure(setting: VerifiedSetting) -> Figure:
    """Scores of same and different pairs, a panel a head, of the first finished seed."""
    rows = list(setting.done().drop_duplicates("label").itertuples())
    columns = min(HISTOGRAM_COLUMNS, len(rows))
    figure, axes = new_figure(-(-len(rows) // columns), columns, width=3.3, height=2.6)
    for axis, row in zip(axes, rows, strict=False):
        pairs = setting.tested_pairs(row)
        edges = np.linspace(pairs.scores.min(), pairs.scores.max() + 1e-9, HISTOGRAM_BINS + 1)
        for kind, name, colour in (
            (pairs.same, "same", "tab:blue"),
            (~pairs.same, "different", "tab:orange"),
        ):
            axis.hist(
                pairs.scores[kind],
                bins=edges,
                density=True,
                alpha=0.6,
                color=colour,
                label=name,
                linewidth=0,
            )
        thresholds = [value for entry in row.entries for value in entry["thresholds"]]
        axis.axvline(float(np.mean(thresholds)), color="black", linewidth=0.8, linestyle=":")
        axis.set_title(literal(row.label))
        axis.set_yticks([])
        axis.tick_params(labelsize=7)
        axis.set_xlabel("score", fontsize=8)
    clear_unused(axes, len(rows))
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, title="pairs")
    caption = (
        f"{setting.name}: scores (cosines) of same and of different pairs, each kind scaled to the "
        "same area; the dotted line is the threshold, the mean over folds; one seed."
    )
    return Figure(f"verification-scores-{slug(setting.name)}", caption, figure)


def dimension_figure(setting: VerifiedSetting, styles: Mapping[str, LabelStyle]) -> Figure:
    """Accuracy against the number of principal components kept, the mean over seeds."""
    figure, (axis,) = new_figure(1, 1, width=7.2, height=4.0)
    for label, group in setting.done().groupby("label", sort=False):
        points = pd.DataFrame(
            [
                {"dimension": dimension, "accuracy": 100 * accuracy}
                for entries in group["entries"]
                for entry in entries
                for dimension, accuracy in entry["by_dimension"]
            ]
        )
        means = points.groupby("dimension")["accuracy"].mean()
        style = styles[label]
        axis.plot(
            means.index,
            means,
            color=style.colour,
            linestyle=style.dash,
            marker="o",
            markersize=3,
            linewidth=1.5,
            label=literal(label),
        )
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_xlabel("principal components kept")
    axis.set_ylabel("verification accuracy (%)")
    figure.legend(loc="outside right center", frameon=False)
    caption = (
        f"{setting.name}: accuracy against the dimension that PCA leaves, fitted on the folds that "
        "choose the threshold only; mean over seeds."
    )
    return Figure(f"verification-dimension-{slug(setting.name)}", caption, figure)
