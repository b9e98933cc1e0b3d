"""Training and test error against iteration, in the form of the paper's Figs. 6 and 7."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes

from marginbench.drawing import LabelStyle, label_styles, new_figure, use_error_scale
from marginbench.results import finished_runs, history, settings
from marginbench.sections import Picture, SectionContent, section
from marginbench.wording import slug

PANELS = {
    "train_error": "Training error",
    "test_error": "Test error",
    "gap": "Gap: test − training",
}


@section("overfitting", title="Overfitting curves", order=20)
def overfitting(results: pd.DataFrame) -> SectionContent:
    """One figure a setting: training error, test error, and their gap, one colour a head."""
    pictures = []
    styles = label_styles(results["label"])
    for name, rows in settings(results):
        done = finished_runs(rows)
        if done.empty:
            continue
        figure, axes = new_figure(1, 3, width=4.6, height=3.9)
        curves = history(done)
        curves["gap"] = curves["test_error"] - curves["train_error"]
        means = curves.groupby(["label", "iteration"], sort=False).mean(numeric_only=True)
        own = [label for label in dict.fromkeys(rows["label"]) if label in set(done["label"])]
        for axis, (column, title) in zip(axes, PANELS.items(), strict=True):
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
            "Liu et al., ICML 2016, Figs. 6–7."
        )
        pictures.append(Picture(f"overfitting-{slug(name)}", caption, figure))
    return SectionContent(pictures=pictures)


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
            label=label,
            linewidth=1.5,
        )
    if logarithmic:
        use_error_scale(axis)
    axis.set_title(title)
    axis.set_xlabel("iteration")
    axis.set_ylabel("error (%)" if logarithmic else "percentage points")
