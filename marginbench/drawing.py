"""One look for every figure: colours that stay with a head, sizes, grids."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Colour = tuple[float, float, float]
DASHES = ("-", "--", "-.", ":")


def new_figure(rows: int, columns: int, *, width: float, height: float) -> tuple[Figure, list]:
    """A figure with its axes in one flat list, row by row; width and height of a panel in inches.

    No global state is touched: the figure is drawn without a display.
    """
    with sns.axes_style("whitegrid"), sns.plotting_context("notebook", font_scale=0.85):
        figure = Figure(figsize=(columns * width, rows * height), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False)
    return figure, list(axes.flat)


class LabelStyle(NamedTuple):
    """How a row of the report is drawn: colour (red, green, blue from 0 to 1) and dash pattern."""

    colour: Colour
    dash: str


def label_styles(labels: Iterable[str]) -> dict[str, LabelStyle]:
    """A style for each label: a hue for each head, shade and dashes for its variants.

    Args:
        labels: head and parameters ("l-softmax m=2"); the first word is the head. In any order
            and with repetitions: the same set gives the same styles.
    """
    variants: dict[str, list[str]] = {}
    for label in sorted(set(labels)):
        variants.setdefault(label.split(" ")[0], []).append(label)
    few = len(variants) <= 10
    hues = sns.color_palette("colorblind") if few else sns.husl_palette(len(variants), l=0.5)
    styles = {}
    for hue, group in zip(hues, variants.values(), strict=False):
        shades = sns.blend_palette([_mixed(hue, 1), hue, _mixed(hue, 0)], len(group))
        for number, (label, shade) in enumerate(zip(group, shades, strict=True)):
            colour = hue if len(group) == 1 else tuple(shade)
            styles[label] = LabelStyle(colour, DASHES[number % len(DASHES)])
    return styles


def class_colours(names: Iterable[str]) -> dict[str, Colour]:
    """A colour for each class, in the order given."""
    distinct = list(dict.fromkeys(names))
    few = len(distinct) <= 10
    palette = sns.color_palette("tab10") if few else sns.husl_palette(len(distinct), l=0.55)
    return dict(zip(distinct, palette, strict=False))


def _mixed(colour: Colour, grey: float) -> Colour:
    """The colour half way to white (1) or black (0)."""
    red, green, blue = (0.5 * channel + 0.5 * grey for channel in colour)
    return red, green, blue


def clear_unused(axes: list[Axes], used: int) -> None:
    """Hide the panels beyond those used."""
    for axis in axes[used:]:
        axis.set_visible(False)
