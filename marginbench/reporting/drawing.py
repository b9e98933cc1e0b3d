"""One style for every figure: colours that stay with a head, sizes, grids."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

Colour = tuple[float, float, float]
DASHES = ("-", "--", "-.", ":")
# Seaborn's palette for the colour-blind, in an order that keeps neighbours apart.
HUES = [sns.color_palette("colorblind")[i] for i in (0, 2, 8, 7, 4, 3, 1)]


def new_figure(rows: int, columns: int, *, width: float, height: float) -> tuple[Figure, list]:
    """A figure with its axes in one flat list, row by row; width and height of a panel in inches.

    No global state is touched: the figure is drawn without a display.
    """
    with sns.axes_style("whitegrid"), sns.plotting_context("notebook", font_scale=0.85):
        figure = Figure(figsize=(columns * width, rows * height), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False)
    return figure, list(axes.flat)


def literal(name: str) -> str:
    """A name as matplotlib shows it to the letter: "$x$" is no formula, "_x" no hidden entry."""
    shown = name.replace("$", r"\$")
    # A legend leaves out labels that begin with an underscore; a space of no width changes that.
    return f"\u200b{shown}" if shown.startswith("_") else shown


class LabelStyle(NamedTuple):
    """How a row of the report is drawn: colour (red, green, blue from 0 to 1) and dash pattern."""

    colour: Colour
    dash: str


def label_styles(labels: Iterable[str]) -> dict[str, LabelStyle]:
    """A style for each label: a hue for each head, shade and dashes for its variants.

    Plain softmax, which everything is measured against, is black.

    Args:
        labels: head and parameters ("l-softmax m=2"); the first word is the head. In any order
            and with repetitions: the same set gives the same styles.
    """
    variants: dict[str, list[str]] = {}
    for label in sorted(set(labels)):
        variants.setdefault(label.split(" ")[0], []).append(label)
    coloured = [head for head in variants if head != "softmax"]
    few = len(coloured) <= len(HUES)
    hues = dict(zip(coloured, HUES if few else sns.husl_palette(len(coloured)), strict=False))
    hues["softmax"] = (0.0, 0.0, 0.0)
    styles = {}
    for head, group in variants.items():
        light, dark = _mixed(hues[head], 1, 0.45), _mixed(hues[head], 0, 0.35)
        shades = sns.blend_palette([light, hues[head], dark], len(group))
        for number, (label, shade) in enumerate(zip(group, shades, strict=True)):
            colour = hues[head] if len(group) == 1 else tuple(shade)
            styles[label] = LabelStyle(colour, DASHES[number % len(DASHES)])
    return styles


def class_colours(names: Iterable[str]) -> dict[str, Colour]:
    """A colour for each class, in the order given."""
    distinct = list(dict.fromkeys(names))
    few = len(distinct) <= 10
    palette = sns.color_palette("tab10") if few else sns.husl_palette(len(distinct), l=0.55)
    return dict(zip(distinct, palette, strict=False))


def use_error_scale(axis: Axes) -> None:
    """A logarithmic y axis with plain numbers: 0.1, 0.2, 0.3, 0.5, 0.7, 1, ..."""
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)))
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.yaxis.set_minor_formatter(NullFormatter())


def _mixed(colour: Colour, grey: float, share: float) -> Colour:
    """The colour with a share of white (1) or black (0)."""
    red, green, blue = ((1 - share) * channel + share * grey for channel in colour)
    return red, green, blue


def clear_unused(axes: list[Axes], used: int) -> None:
    """Hide the panels beyond those used."""
    for axis in axes[used:]:
        axis.set_visible(False)
