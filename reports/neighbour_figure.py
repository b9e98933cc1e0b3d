"""The images nearest to a few queries, of the baseline and of the head that retrieves best."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from marginbench import Figure
from marginbench.reporting.drawing import literal, new_figure, outside_legend
from marginbench.reporting.verification_results import VerifiedSetting
from marginbench.runs.results import evaluation, is_in_evaluation
from marginbench.text import slug

STEP = 1.3
"""From one image to the next, where an image is 1 wide."""
FRAMES: dict[str, dict[str, Any]] = {
    "query": {"edgecolor": "black", "linestyle": "-", "linewidth": 0.6},
    "of the query's class": {"edgecolor": "#0173b2", "linestyle": "-", "linewidth": 1.6},
    "of another class": {"edgecolor": "#d55e00", "linestyle": (0, (2, 1)), "linewidth": 1.6},
}
QUERY, RIGHT, WRONG = FRAMES


def neighbour_figure(setting: VerifiedSetting) -> list[Figure]:
    """A panel a head, a row a query: the query, then the images nearest to it.

    Returns:
        None or one: none where the images may not be shown, or no run has kept them.
    """
    rows = [row for row in _drawn(setting.done()) if _has_images(setting, row)]
    if not rows:
        return []
    kept = [_arrays(setting, row) for row in rows]
    count, across = kept[0]["indices"].shape
    figure, axes = new_figure(1, len(rows), width=4.6, height=3.9 * count / across + 0.5)
    for axis, row, arrays in zip(axes, rows, kept, strict=True):
        _draw(axis, arrays)
        role = " (baseline)" if row.is_baseline else ""
        axis.set_title(f"{literal(row.label)}{role}\nprecision@1 {100 * row.precision_at_1:.2f} %")
    handles: list[Any] = [Rectangle((0, 0), 1, 1, fill=False, **frame) for frame in FRAMES.values()]
    outside_legend(figure, handles, list(FRAMES), title="frame")
    among = rows[0].entries[0]["retrieval"]
    caption = (
        f"{setting.name}: nearest neighbours of {count} images drawn by a fixed seed, the same for "
        f"every head, among {among['images']:,} of {among['classes']:,} classes by the cosine of "
        "the features. Each row: the query, then the images nearest to it, the nearest first; in a "
        "solid frame those of the query's class, in a dashed frame with a cross those of another. "
        "The baseline and, of the others, the head with the highest mean MAP@R; the first finished "
        "seed of each, and precision@1 of all its queries."
    )
    data = pd.concat([_table(row.label, arrays) for row, arrays in zip(rows, kept, strict=True)])
    return [Figure(f"neighbours-{slug(setting.name)}", caption, figure, data)]


def _drawn(done: pd.DataFrame) -> list[Any]:
    """The first finished seed of the baseline, and of the other head with the highest MAP@R."""
    measured = done.dropna(subset=["map_at_r"])
    first = {row.label: row for row in reversed(list(measured.itertuples()))}
    means = measured.groupby("label", sort=False)["map_at_r"].mean()
    baseline = [row for row in first.values() if row.is_baseline][:1]
    others = [label for label in means.index if not first[label].is_baseline]
    best = sorted(others, key=lambda label: -means[label])[:1]
    return [*baseline, *(first[label] for label in best)]


def _prefix(setting: VerifiedSetting) -> str:
    return f"verification/{setting.set_name}/neighbours/"


def _has_images(setting: VerifiedSetting, row: Any) -> bool:
    return is_in_evaluation(row.folders[0], f"{_prefix(setting)}images")


def _arrays(setting: VerifiedSetting, row: Any) -> dict[str, np.ndarray]:
    """See :func:`marginbench.evaluation.neighbours.neighbours`."""
    prefix = _prefix(setting)
    found = evaluation(row.folders[0]).items()
    return {name.removeprefix(prefix): array for name, array in found if name.startswith(prefix)}


def _draw(axis: Axes, arrays: dict[str, np.ndarray]) -> None:
    images, right = arrays["images"], arrays["right"]
    height = images.shape[3] / images.shape[4]
    for y, (of_query, is_right) in enumerate(zip(images, right, strict=True)):
        kinds = [QUERY, *(RIGHT if one else WRONG for one in is_right)]
        for x, (image, kind) in enumerate(zip(of_query, kinds, strict=True)):
            # The query stands a little apart.
            left, top = STEP * x + (0.4 if x else 0), (height + 0.3) * y
            _show(axis, image, left, top, height)
            axis.add_patch(Rectangle((left, top), 1, height, fill=False, zorder=2, **FRAMES[kind]))
            if kind == WRONG:
                axis.plot(
                    [left + 0.86, left + 1.14],
                    [top - 0.14, top + 0.14],
                    [left + 0.86, left + 1.14],
                    [top + 0.14, top - 0.14],
                    color=FRAMES[WRONG]["edgecolor"],
                    linewidth=1.4,
                    zorder=3,
                )
    axis.set_xlim(-0.2, STEP * images.shape[1] + 0.4)
    axis.set_ylim((height + 0.3) * len(images), -0.3)
    axis.set_aspect("equal")
    axis.axis("off")


def _show(axis: Axes, image: np.ndarray, left: float, top: float, height: float) -> None:
    pixels = image.transpose(1, 2, 0)
    pixels = pixels[:, :, :3] if pixels.shape[2] >= 3 else pixels[:, :, 0]
    axis.imshow(
        pixels,
        cmap="gray",
        vmin=0,
        vmax=255,
        extent=(left, left + 1, top + height, top),
        interpolation="nearest",
        zorder=1,
    )


def _table(label: str, arrays: dict[str, np.ndarray]) -> pd.DataFrame:
    indices, cosine, right = arrays["indices"], arrays["cosine"], arrays["right"]
    queries, count = right.shape
    return pd.DataFrame(
        {
            "label": label,
            "query": np.repeat(indices[:, 0], count),
            "rank": np.tile(np.arange(1, count + 1), queries),
            "image": indices[:, 1:].ravel(),
            "cosine": cosine.ravel(),
            "of the query's class": right.ravel(),
        }
    )
