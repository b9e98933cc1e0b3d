"""Training and test error against iteration (the paper's Fig. 6), and the gap at the end."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from marginbench import Figure, SectionContent, Table, section
from marginbench.reporting.curves import (
    CURVE_COLUMNS,
    Axis,
    band_over_seeds,
    draw_curves,
    interactive_curves,
)
from marginbench.reporting.drawing import (
    LabelStyle,
    label_styles,
    new_figure,
    outside_legend,
    paper_style,
    use_error_scale,
)
from marginbench.runs.conditions import settings
from marginbench.runs.results import finished_runs, history
from marginbench.text import slug

PANELS = {
    "train_error": "Training error",
    "test_error": "Test error",
    "gap": "Gap: test − training",
}
ITERATION = Axis("iteration")
ERROR = Axis("error (%)", logarithmic=True)
GAP = Axis("percentage points")


@section("overfitting", title="Overfitting curves", order=8)
def overfitting(results: pd.DataFrame) -> SectionContent:
    """For every setting a figure, one colour a head, and a table of the gaps at the end."""
    tables, figures = [], []
    styles = label_styles(results["label"])
    for name, rows in settings(results):
        done = finished_runs(rows)
        if done.empty:
            continue
        curves = error_curves(done)
        figures.append(error_figure(name, curves, styles))
        if PANELS["gap"] in set(curves["panel"]):
            tables.append(_gaps(name, done))
    return SectionContent(tables=tables, figures=figures)


def error_curves(done: pd.DataFrame) -> pd.DataFrame:
    """Errors in percent, and their gap in percentage points, against iteration.

    Args:
        done: finished cells of one setting, rows of a results frame.

    Returns:
        The columns of :data:`marginbench.reporting.curves.CURVE_COLUMNS`, a panel for each of
        :data:`PANELS` that has a value; x the iteration, y the mean over seeds, low and high the
        lowest and the highest seed's value. An error of 0, which a logarithmic scale lacks, is half
        of the smallest other one.
    """
    looks = history(done).astype({"train_error": float, "test_error": float})
    looks["gap"] = looks["test_error"] - looks["train_error"]
    # The suite's order, which a history keeps, and one of the panels.
    parts = []
    for column, panel in PANELS.items():
        if looks[column].isna().all():
            continue
        groups = looks.groupby(["label", "iteration"], sort=False)[column]
        points = [
            {"panel": panel, "label": label, "x": iteration} | band_over_seeds(100 * values)
            for (label, iteration), values in groups
        ]
        part = pd.DataFrame(points, columns=CURVE_COLUMNS)
        if column != "gap":
            values = part[["y", "low", "high"]]
            positive = values.where(values > 0).min().min()
            floor = positive / 2 if positive > 0 else 0.05
            part[["y", "low", "high"]] = values.clip(lower=floor)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def error_figure(
    name: str, curves: pd.DataFrame, styles: Mapping[str, LabelStyle] | None = None
) -> Figure:
    """The curves of :func:`error_curves`, a panel beside the other.

    Args:
        name: of the setting.
        curves: of its finished cells.
        styles: of the labels; None for those that these labels have by themselves.
    """
    styles = label_styles(curves["label"]) if styles is None else styles
    panels = list(dict.fromkeys(curves["panel"]))
    figure, axes = new_figure(1, len(panels), width=4.6, height=3.9)
    kinds = {panel: GAP if panel == PANELS["gap"] else ERROR for panel in panels}
    # What is set after the axes were made needs the style again.
    with paper_style():
        for axis, panel in zip(axes, panels, strict=True):
            draw_curves(axis, curves[curves["panel"] == panel], styles)
            if kinds[panel].logarithmic:
                use_error_scale(axis)
            axis.set_title(panel)
            axis.set_xlabel(ITERATION.title)
            axis.set_ylabel(kinds[panel].title)
    outside_legend(figure, *axes[0].get_legend_handles_labels())
    seeds = curves["seeds"]
    most = int(seeds.max())
    caption = (
        f"{name}: error against iteration, mean over {int(seeds[seeds > 0].min())}"
        + (f" to {most}" if most != seeds[seeds > 0].min() else "")
        + (" finished run a head;" if most == 1 else " finished runs a head;")
        + (" a band goes from the lowest seed to the highest;" if most > 1 else "")
        + " errors of 0 are drawn at the lower edge. In the form of Liu et al., ICML 2016, Fig. 6."
    )
    interactive = interactive_curves(curves, styles, {p: (ITERATION, kinds[p]) for p in panels})
    return Figure(f"overfitting-{slug(name)}", caption, figure, curves, interactive)


def _gaps(name: str, done: pd.DataFrame) -> Table:
    """Training error, test error and gap of each head at the end, the smallest gap first."""
    rows = []
    for label, group in done.groupby("label", sort=False):
        train, test = (100 * group[f"{k}_error"].astype(float) for k in ("train", "test"))
        gap = test - train
        rows.append((gap.mean(), [str(label), *map(_spread, (train, test, gap)), str(len(gap))]))
    rows.sort(key=lambda row: row[0])
    columns = ["head", "train error %", "test error %", "gap", "seeds"]
    caption = (
        f"{name}: overfitting at the end of training. The gap is test minus training error, in "
        "percentage points, mean ± standard deviation over seeds; the smallest first. The "
        "training error is taken in testing mode, on at most 10,000 training images."
    )
    frame = pd.DataFrame([cells for _, cells in rows], columns=columns)
    return Table(f"overfitting-gap-{slug(name)}", caption, frame)


def _spread(values: pd.Series) -> str:
    spread = f" ± {values.std():.2f}" if len(values) > 1 else ""
    return f"{values.mean():.2f}{spread}"
