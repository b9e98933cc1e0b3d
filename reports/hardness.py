"""Angular visual hardness of the test images, and the hyperspherical energy of the layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

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
    use_error_scale,
)
from marginbench.runs.conditions import settings
from marginbench.runs.results import finished_runs, history
from marginbench.text import slug

from .hardness_figures import (
    ENERGY,
    by_class_and_difficulty,
    by_layer,
    energy_by_layer,
    hardness_of_images,
    is_wide,
)

ITERATION = Axis("iteration")
CURVES = {
    "visual_hardness_right": ("AVH of images classified right", Axis("AVH")),
    "visual_hardness_wrong": ("AVH of images classified wrong", Axis("AVH")),
    "hardness_correlation": ("Rank correlation of AVH with being wrong", Axis("Spearman's ρ")),
    "energy": ("Energy, mean over the hidden layers", Axis("mean of 1/d²")),
}
RANKINGS = {
    "hardness_correlation": "ρ of AVH",
    "confidence_correlation": "ρ of confidence",
    "norm_correlation": "ρ of norm",
}


@section("hardness", title="Hardness of images, energy of layers", order=47)
def hardness(results: pd.DataFrame) -> SectionContent:
    """For every setting its curves, a table of rank correlations, AVH by class and difficulty."""
    tables, figures = [], []
    for name, rows in settings(results):
        done = finished_runs(rows)
        looks = _looks(done)
        if looks.empty:
            continue
        styles = label_styles(results["label"])
        figures.append(_curves(name, looks, styles))
        if set(RANKINGS) & set(looks.columns):
            tables.append(_rankings(name, looks))
        images = hardness_of_images(done)
        if len(images):
            figures.append(by_class_and_difficulty(name, images, styles))
        layers = energy_by_layer(looks)
        if len(layers):
            figures.append(by_layer(name, layers, styles))
    return SectionContent(tables=tables, figures=figures)


def _looks(done: pd.DataFrame) -> pd.DataFrame:
    """The history, with the mean energy of the hidden layers; no rows where nothing is recorded."""
    looks = history(done) if len(done) else pd.DataFrame()
    hidden = [c for c in looks.columns if c.startswith(ENERGY) and c != f"{ENERGY}classifier"]
    if hidden:
        looks["energy"] = looks[hidden].astype(float).mean(axis=1)
    recorded = [column for column in CURVES if column in looks.columns]
    return looks.dropna(subset=recorded, how="all") if recorded else pd.DataFrame()


def _curves(name: str, looks: pd.DataFrame, styles: Mapping[str, LabelStyle]) -> Figure:
    kept = {column: shown for column, shown in CURVES.items() if column in looks.columns}
    if "energy" in kept and is_wide(looks["energy"]):
        panel, shown = kept["energy"]
        kept["energy"] = (panel, replace(shown, logarithmic=True))
    points = [
        {"panel": panel, "label": label, "x": iteration} | band_over_seeds(values)
        for column, (panel, _) in kept.items()
        for (label, iteration), values in looks.groupby(["label", "iteration"], sort=False)[column]
        if values.notna().any()
    ]
    curves = pd.DataFrame(points, columns=CURVE_COLUMNS)
    figure, axes = new_figure(-(-len(kept) // 2), min(2, len(kept)), width=5.0, height=3.4)
    for axis, (panel, shown) in zip(axes, kept.values(), strict=False):
        draw_curves(axis, curves[curves["panel"] == panel], styles)
        axis.set_title(panel)
        axis.set_xlabel(ITERATION.title)
        axis.set_ylabel(shown.title)
        if shown.logarithmic:
            use_error_scale(axis)
    for axis in axes[len(kept) :]:
        axis.set_visible(False)
    outside_legend(figure, *axes[0].get_legend_handles_labels())
    caption = (
        f"{name}: angular visual hardness AVH = θ_y / Σ_i θ_i of the test images along training, "
        "θ_i the angle between features and class weight i (Liu, dissertation, Section 1.1): of "
        "the images that are classified right, of those classified wrong, and its rank "
        "correlation (Spearman) with being wrong; and the mean of 1/d² over the pairs of a layer's "
        "filters, d the distance of their directions. Means over seeds."
    )
    panels = {panel: (ITERATION, shown) for panel, shown in kept.values()}
    interactive = interactive_curves(curves, styles, panels)
    return Figure(f"hardness-{slug(name)}", caption, figure, curves, interactive)


def _rankings(name: str, looks: pd.DataFrame) -> Table:
    last = looks.groupby("key", sort=False).tail(1)
    shown = {
        "visual_hardness_right": "AVH right",
        "visual_hardness_wrong": "AVH wrong",
        **RANKINGS,
    }
    rows = []
    for label, group in last.groupby("label", sort=False):
        cells = {"head": str(label)}
        for column, heading in shown.items():
            cells[heading] = _spread(group[column] if column in group else pd.Series(dtype=float))
        rows.append(cells | {"seeds": str(len(group))})
    caption = (
        f"{name}: how well a number of an image ranks the misclassified ones at the end of "
        "training: Spearman's ρ with being wrong, of AVH, of the confidence (softmax of the own "
        "class's logit) and of the features' norm. AVH by itself, of images classified right and "
        "wrong. In the form of Liu's Fig. 1.2, without human labels. Mean ± standard deviation "
        "over seeds."
    )
    return Table(f"hardness-{slug(name)}", caption, pd.DataFrame(rows))


def _spread(values: pd.Series) -> str:
    known = values.dropna().astype(float)
    if known.empty:
        return "–"
    return f"{known.mean():.3f}" + (f" ± {known.std():.3f}" if len(known) > 1 else "")
