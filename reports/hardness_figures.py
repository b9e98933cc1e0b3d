"""AVH by class and by difficulty, and the energy of each layer: what is drawn, and the drawing."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from marginbench import Figure
from marginbench.reporting.drawing import (
    LabelStyle,
    class_labels,
    literal,
    new_figure,
    outside_legend,
    use_error_scale,
)
from marginbench.runs.results import evaluation, is_in_evaluation
from marginbench.text import distinct, slug

ENERGY = "energy/"
DIFFICULTIES = (0.0, 0.25, 0.5, 0.75, 1.0)
FEW_CLASSES = 20


def hardness_of_images(done: pd.DataFrame) -> pd.DataFrame:
    """AVH of each test image in each run, and how many of the runs get that image wrong.

    Args:
        done: finished rows of one setting.

    Returns:
        Columns label (of the head), class, hardness, wrong and difficulty, the share of these runs
        that classify the image wrong, in [0, 1]; no rows where the runs did not record it, or
        have other test images than one another.
    """
    runs = [
        (row, evaluation(row.folder))
        for row in done.itertuples()
        if is_in_evaluation(row.folder, "hardness/hardness")
    ]
    labels = [arrays["hardness/label"] for _, arrays in runs]
    if not runs or any(not np.array_equal(labels[0], other) for other in labels):
        return pd.DataFrame()
    difficulty = np.mean([arrays["hardness/wrong"] for _, arrays in runs], axis=0)
    parts = [
        pd.DataFrame(
            {
                "label": row.label,
                "class": _names(row, labels[0]),
                "hardness": arrays["hardness/hardness"].astype(float),
                "wrong": arrays["hardness/wrong"],
                "difficulty": difficulty,
            }
        )
        for row, arrays in runs
    ]
    return pd.concat(parts, ignore_index=True)


def _names(row: object, numbers: np.ndarray) -> list[str]:
    """The name of each image's class; of two classes of one name the second has a number."""
    names = getattr(row, "class_names", None) or []
    unnamed = range(len(names), int(numbers.max(initial=-1)) + 1)
    shown = distinct(map(str, [*names, *unnamed]))
    return [shown[number] for number in numbers]


def energy_by_layer(looks: pd.DataFrame) -> pd.DataFrame:
    """The energy of each layer at the last look: label, layer and energy, the mean over seeds."""
    last = looks.loc[looks.groupby("key", sort=False)["iteration"].idxmax()]
    columns = [column for column in looks.columns if column.startswith(ENERGY)]
    found = last.groupby("label", sort=False)[columns].mean().dropna(axis=1, how="all")
    rows = [
        {"label": label, "layer": column.removeprefix(ENERGY), "energy": float(value)}
        for label, values in found.iterrows()
        for column, value in values.items()
    ]
    return pd.DataFrame(rows, columns=["label", "layer", "energy"])


def is_wide(values: pd.Series) -> bool:
    """Whether positive values span more than a decade, so that only a logarithm shows them."""
    known = values.dropna()
    return bool(len(known) and known.min() > 0 and known.max() > 10 * known.min())


def by_class_and_difficulty(
    name: str, images: pd.DataFrame, styles: Mapping[str, LabelStyle]
) -> Figure:
    """Mean AVH of what :func:`hardness_of_images` returns, by class and by difficulty."""
    figure, (by_class, by_difficulty) = new_figure(1, 2, width=5.0, height=3.6)
    # Hardest first: over all heads.
    order = images.groupby("class")["hardness"].mean().sort_values(ascending=False).index
    edges = pd.cut(images["difficulty"], [-1, *DIFFICULTIES], labels=False)
    names = [_share(number) for number in range(len(DIFFICULTIES))]
    parts = []
    for label, rows in images.groupby("label", sort=False):
        style = styles[str(label)]
        means = rows.groupby("class")["hardness"].mean().reindex(order)
        bins = rows.groupby(edges[rows.index])["hardness"].agg(["mean", "size"])
        for axis, x, y in (
            (by_class, range(len(order)), means),
            (by_difficulty, bins.index, bins["mean"]),
        ):
            axis.plot(
                x, y, color=style.colour, linestyle=style.dash, marker="o", markersize=3,
                linewidth=1.0, label=literal(str(label)),
            )  # fmt: skip
        parts += [{"label": label, "class": c, "AVH": v} for c, v in means.items()]
        parts += [
            {"label": label, "share of runs wrong, %": names[int(n)], "AVH": v["mean"]}
            | {"images": int(v["size"])}
            for n, v in bins.iterrows()
        ]
    few = len(order) <= FEW_CLASSES
    by_class.set_xticks(range(len(order)) if few else [])
    if few:
        shown = dict(zip(sorted(order), class_labels(sorted(order)), strict=True))
        by_class.set_xticklabels([shown[c] for c in order], rotation=90)
    by_class.set_xlabel("class, the hardest first")
    by_class.set_ylabel("mean AVH")
    by_difficulty.set_xticks(range(len(names)), names)
    by_difficulty.set_xlabel("share of the runs that get the image wrong (%)")
    outside_legend(figure, *by_class.get_legend_handles_labels())
    caption = (
        f"{name}: mean angular visual hardness of the test images at the end of training, by "
        "class and by difficulty: how many of this setting's runs, all heads and seeds, classify "
        "the image wrong."
    )
    return Figure(f"hardness-by-class-{slug(name)}", caption, figure, pd.DataFrame(parts))


def _share(number: int) -> str:
    return f"{'≤ ' if number else ''}{round(100 * DIFFICULTIES[number])}"


def by_layer(name: str, layers: pd.DataFrame, styles: Mapping[str, LabelStyle]) -> Figure:
    """What :func:`energy_by_layer` returns, a line a head."""
    figure, (axis,) = new_figure(1, 1, width=7.0, height=3.6)
    order = list(dict.fromkeys(layers["layer"]))
    for label, rows in layers.groupby("label", sort=False):
        style = styles[str(label)]
        axis.plot(
            [order.index(layer) for layer in rows["layer"]], rows["energy"],
            color=style.colour, linestyle=style.dash, marker="o", markersize=3, linewidth=1.0,
            label=literal(str(label)),
        )  # fmt: skip
    axis.set_xticks(range(len(order)), [literal(one) for one in order], rotation=90)
    if is_wide(layers["energy"]):
        use_error_scale(axis)
    axis.set_ylabel("energy: mean of 1/d²")
    outside_legend(figure, *axis.get_legend_handles_labels())
    caption = (
        f"{name}: hyperspherical energy of each layer at the end of training, the mean of 1/d² "
        "over the pairs of its filters, d the distance of their directions, over seeds. Filters "
        "orthogonal to one another have 0.5."
    )
    return Figure(f"energy-{slug(name)}", caption, figure, layers)
