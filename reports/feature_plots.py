"""2-D features by class, training and test, in the form of the paper's Fig. 2."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from marginbench import Figure, SectionContent, section
from marginbench.reporting.drawing import (
    class_colours,
    class_labels,
    clear_unused,
    literal,
    new_figure,
    outside_legend,
)
from marginbench.runs.conditions import settings
from marginbench.runs.results import evaluation, finished_runs
from marginbench.text import distinct, percent, slug

COLUMNS = 4


@section("features", title="Features", order=30)
def features(results: pd.DataFrame) -> SectionContent:
    """For every setting with 2-D features: one panel a head, of the first finished seed."""
    figures = []
    for name, rows in settings(results):
        # Without test images no features are kept.
        done = finished_runs(rows).dropna(subset=["test_error"])
        done = done[done["feature_dimension"] == 2].drop_duplicates("label")
        if done.empty:
            continue
        for split in ("test", "train"):
            row_count = -(-len(done) // COLUMNS)
            columns = min(COLUMNS, len(done))
            figure, axes = new_figure(row_count, columns, width=3.1, height=3.3)
            points = [
                _draw(axis, row, split) for axis, row in zip(axes, done.itertuples(), strict=False)
            ]
            clear_unused(axes, len(done))
            handles, labels = axes[0].get_legend_handles_labels()
            outside_legend(figure, handles, labels, title="class", markerscale=3)
            caption = (
                f"{name}: features of the {'test' if split == 'test' else 'training'} images by "
                "class, with the directions of the class weights; one seed. In the form of Liu "
                "et al., ICML 2016, Fig. 2."
            )
            data = pd.concat(points)
            figures.append(Figure(f"features-{slug(name)}-{split}", caption, figure, data))
    return SectionContent(figures=figures)


def _draw(axis: Axes, row: Any, split: str) -> pd.DataFrame:
    """Draw a panel; the points in it."""
    arrays = evaluation(row.folder)
    points, labels = arrays[f"{split}_features"], arrays[f"{split}_labels"]
    class_names = distinct(map(str, row.class_names))
    palette = class_colours(class_names)
    shown = class_labels(class_names)
    for number, name in enumerate(class_names):
        of_class = points[labels == number]
        axis.scatter(
            of_class[:, 0],
            of_class[:, 1],
            s=2,
            alpha=0.7,
            linewidths=0,
            color=palette[name],
            label=shown[number],
            rasterized=True,
        )
    reach = np.linalg.norm(points, axis=1).max()
    for weight, name in zip(arrays["class_weights"], class_names, strict=False):
        end = weight / max(np.linalg.norm(weight), 1e-12) * reach
        axis.plot([0, end[0]], [0, end[1]], color=palette[name], linewidth=0.8, alpha=0.6)
    axis.set_aspect("equal")
    axis.set_box_aspect(1)
    axis.set_xlim(-1.05 * reach, 1.05 * reach)
    axis.set_ylim(-1.05 * reach, 1.05 * reach)
    axis.tick_params(labelsize=5)
    kind, error = ("test", row.test_error) if split == "test" else ("training", row.train_error)
    axis.set_title(f"{literal(row.label)}\n{kind} error {percent(error)} %")
    names = np.array(class_names)[labels]
    return pd.DataFrame({"label": row.label, "class": names, "x": points[:, 0], "y": points[:, 1]})
