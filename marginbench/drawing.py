"""One look for every figure: colours that stay with a head, sizes, grids."""

from __future__ import annotations

from collections.abc import Iterable

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure


def new_figure(rows: int, columns: int, *, width: float, height: float) -> tuple[Figure, list]:
    """A figure with its axes in one flat list, row by row; width and height of a panel in inches.

    No global state is touched: the figure is drawn without a display.
    """
    with sns.axes_style("whitegrid"), sns.plotting_context("notebook", font_scale=0.85):
        figure = Figure(figsize=(columns * width, rows * height), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False)
    return figure, list(axes.flat)


def colours(labels: Iterable[str]) -> dict[str, tuple[float, float, float]]:
    """A colour for each label: a hue for each head, from light to dark over its variants.

    Args:
        labels: head and parameters ("l-softmax m=2"); the first word is the head.
    """
    variants: dict[str, list[str]] = {}
    for label in dict.fromkeys(labels):
        variants.setdefault(label.split(" ")[0], []).append(label)
    few = len(variants) <= 10
    hues = sns.color_palette("tab10") if few else sns.husl_palette(len(variants), l=0.5)
    chosen = {}
    for hue, group in zip(hues, variants.values(), strict=False):
        shades = sns.blend_palette([_lighter(hue), hue, _darker(hue)], len(group) + 2)[1:-1]
        chosen |= dict(zip(group, shades if len(group) > 1 else [hue], strict=True))
    return chosen


def _lighter(colour: tuple[float, float, float]) -> tuple[float, float, float]:
    return tuple(1 - 0.25 * (1 - channel) for channel in colour)


def _darker(colour: tuple[float, float, float]) -> tuple[float, float, float]:
    return tuple(0.25 * channel for channel in colour)


def clear_unused(axes: list[Axes], used: int) -> None:
    """Hide the panels beyond those used."""
    for axis in axes[used:]:
        axis.set_visible(False)
