"""Training and test error against iteration (the paper's Fig. 6), and the gap at the end."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes

from marginbench import Figure, SectionContent, Table, section
from marginbench.reporting.drawing import (
    LabelStyle,
    label_styles,
    literal,
    new_figure,
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


@section("overfitting", title="Overfitting curves", order=20)
def overfitting(results: pd.DataFrame) -> SectionContent:
    """For every setting a figure, one colour a head, and a table of the gaps at the end."""
    tables, figures = [], []
    styles = label_styles(results["label"])
    for name, rows in settings(results):
        done = finished_runs(rows)
        if done.empty:
            continue
        curves = history(done)
        curves = curves.astype({"train_error": float, "test_error": float})
        curves["gap"] = curves["test_error"] - curves["train_error"]
        means = curves.groupby(["label", "iteration"], sort=False).mean(numeric_only=True)
        own = [label for label in dict.fromkeys(rows["label"]) if label in set(done["label"])]
        # Without test images there is a training error only.
        panels = {column: title for column, title in PANELS.items() if means[column].notna().any()}
        figure, axes = new_figure(1, len(panels), width=4.6, height=3.9)
        for axis, (column, title) in zip(axes, panels.items(), strict=True):
            _draw(
                axis,
                means[column],
                {label: styles[label] for label in own},
                title,
                logarithmic=column != "gap",
            )
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center", frameon=False)
        seeds = done.groupby("label").size()
        caption = (
            f"{name}: error against iteration, mean over {seeds.min()}"
            + (f" to {seeds.max()}" if seeds.max() != seeds.min() else "")
            + (" finished run a head;" if seeds.max() == 1 else " finished runs a head;")
            + " errors of 0 are drawn at the lower edge. In the form of "
            "Liu et al., ICML 2016, Fig. 6."
        )
        figures.append(Figure(f"overfitting-{slug(name)}", caption, figure))
        if "gap" in panels:
            tables.append(_gaps(name, done))
    return SectionContent(tables=tables, figures=figures)


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


def _draw(
    axis: Axes,
    means: pd.Series,
    styles: dict[str, LabelStyle],
    title: str,
    *,
    logarithmic: bool,
) -> None:
    percent = 100 * means
    floor = percent[percent > 0].min() if (percent > 0).any() else 0.1
    for label, style in styles.items():
        curve = percent.loc[label]
        values = curve.clip(lower=floor / 2) if logarithmic else curve
        axis.plot(
            curve.index,
            values,
            color=style.colour,
            linestyle=style.dash,
            label=literal(label),
            linewidth=1.5,
        )
    if logarithmic:
        use_error_scale(axis)
    axis.set_title(title)
    axis.set_xlabel("iteration")
    axis.set_ylabel("error (%)" if logarithmic else "percentage points")
