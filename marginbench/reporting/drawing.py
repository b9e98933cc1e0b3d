"""One style for every figure: colours that stay with a head, sizes, grids."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, NamedTuple

import seaborn as sns
from matplotlib import font_manager, rcParams
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

Colour = tuple[float, float, float]
BLACK: Colour = (0.0, 0.0, 0.0)
DASHES = ("-", "--", "-.", ":")
PAGE_DASHES = {"-": (), "--": (6, 3), "-.": (7, 2, 2, 2), ":": (2, 2)}
# Seaborn's palette for the colour-blind, in an order that keeps neighbours apart.
HUES = [sns.color_palette("colorblind")[i] for i in (0, 2, 8, 7, 4, 3, 1)]


LONGEST_CLASS = 30
"""Letters of a class's name in a figure; the figure's data have the whole name."""
_OF_MANY_LETTERS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Zen Hei"),
    *("WenQuanYi Micro Hei", "IPAexGothic", "Droid Sans Fallback", "PingFang SC"),
    *("Hiragino Sans", "Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "Arial Unicode MS"),
)
_THERE = {font.name for font in font_manager.fontManager.ttflist}
FAMILIES = ["DejaVu Sans", *(family for family in _OF_MANY_LETTERS if family in _THERE)]
"""The fonts whose letters a figure has, Chinese, Japanese and Korean ones where they are there."""
rcParams["font.family"] = [*rcParams["font.family"], *FAMILIES]

WIDTHS = {1: 3.35, 2: 6.9}
"""Inches that a figure has in one and in two columns of a paper's page."""
_FONT_SCALE = 0.8  # of seaborn's context "paper": 7.7 points for labels, 7 for the rest
_LARGEST_SHRINKING = 0.72
_columns: ContextVar[int] = ContextVar("columns", default=2)


@contextmanager
def paper_columns(columns: int) -> Iterator[None]:
    """Within it, figures have the width of so many columns of a paper's page: 1 or 2."""
    token = _columns.set(columns)
    try:
        yield
    finally:
        _columns.reset(token)


def new_figure(
    rows: int, columns: int, *, width: float, height: float, ratios: Sequence[float] | None = None
) -> tuple[Figure, list]:
    """A figure for a paper's page, with its axes in one flat list, row by row.

    No global state is touched: the figure is drawn without a display.

    Args:
        rows, columns: of panels; in one column of a page, fewer panels stand side by side.
        width, height: of a panel in relation to the others, where about 10 have room in two columns
            of a page; what is wider is made smaller.
        ratios: of the rows' heights; None for equal ones. With one column of panels only.
    """
    if _columns.get() == 1:
        panels = rows * columns
        columns = min(columns, 1 if width >= 4 else 2)
        rows = -(-panels // columns)
    natural = columns * width * _LARGEST_SHRINKING
    scale = min(1.0, WIDTHS[_columns.get()] / natural) * _LARGEST_SHRINKING
    # The text does not become smaller with the panels: they keep some height for it.
    size = (columns * width * scale, rows * height * max(scale, 0.55))
    with sns.axes_style("whitegrid", {"font.family": rcParams["font.family"]}), paper_style():
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False, height_ratios=ratios)
    return figure, list(axes.flat)


def paper_style() -> AbstractContextManager[Any]:
    """Within it, text and lines have the sizes of a paper's page, titles set later included."""
    return sns.plotting_context(
        "paper", font_scale=_FONT_SCALE, rc={"axes.titlesize": 8, "grid.linewidth": 0.5}
    )


def outside_legend(figure: Figure, handles: list[Any], labels: list[Any], **options: Any) -> None:
    """A legend that covers no curve: beside the panels, or below them in one column of a page."""
    with paper_style():
        if _columns.get() == 1:
            options |= {"loc": "outside lower center", "ncols": 2}
        beside: dict[str, Any] = {"loc": "outside right center", "frameon": False}
        figure.legend(handles, labels, **beside | options)


def literal(name: str) -> str:
    """A name as matplotlib shows it to the letter: "$x$" is no formula, "_x" no hidden entry."""
    shown = name.replace("$", r"\$")
    # A legend leaves out labels that begin with an underscore; a space of no width changes that.
    return f"\u200b{shown}" if shown.startswith("_") else shown


def class_labels(names: Iterable[str]) -> list[str]:
    """Names of classes as a figure shows them: short, each another, and without missing letters.

    Args:
        names: in the order of their numbers. A long one keeps its beginning and its end; one of
            letters that no font here has becomes "class NUMBER", and one that is there already
            gets its number.
    """
    shown: list[str] = []
    for number, name in enumerate(map(str, names)):
        text = name
        if len(name) > LONGEST_CLASS:
            text = f"{name[: LONGEST_CLASS // 2]}…{name[-LONGEST_CLASS // 3 :]}"
        if not all(any(font.get_char_index(ord(letter)) for font in _fonts()) for letter in text):
            text = f"class {number}"
        while literal(text) in shown:
            text += f" ({number})"
        shown.append(literal(text))
    return shown


@cache
def _fonts() -> list[Any]:
    return [font_manager.get_font(font_manager.findfont(family)) for family in FAMILIES]


class LabelStyle(NamedTuple):
    """How a row of the report is drawn: colour (red, green, blue from 0 to 1) and dash pattern."""

    colour: Colour
    dash: str

    @property
    def in_page(self) -> tuple[str, tuple[int, ...]]:
        """The colour in CSS, and the dash pattern in pixels; black is the page's own ink."""
        colour = "currentColor" if self.colour == BLACK else to_hex(self.colour)
        return colour, PAGE_DASHES[self.dash]


def label_styles(labels: Iterable[str]) -> dict[str, LabelStyle]:
    """A style for each label: hue and dashes for each head, shade and dashes for its variants.

    Plain softmax, which everything is measured against, is black. Hues come again, with other
    dashes, before there are so many that neighbours look alike.

    Args:
        labels: head and parameters ("l-softmax m=2"); the first word is the head. In any order
            and with repetitions: the same set gives the same styles.
    """
    variants: dict[str, list[str]] = {}
    for label in sorted(set(labels)):
        variants.setdefault(label.split(" ")[0], []).append(label)
    coloured = [head for head in variants if head != "softmax"]
    few = len(coloured) <= len(HUES) * len(DASHES)
    palette = HUES if few else sns.husl_palette(math.ceil(len(coloured) / len(DASHES)))
    hues = {head: palette[i % len(palette)] for i, head in enumerate(coloured)} | {"softmax": BLACK}
    first_dash = {head: i // len(palette) for i, head in enumerate(coloured)} | {"softmax": 0}
    styles = {}
    for head, group in variants.items():
        light, dark = _mixed(hues[head], 1, 0.45), _mixed(hues[head], 0, 0.35)
        shades = sns.blend_palette([light, hues[head], dark], len(group))
        for number, (label, shade) in enumerate(zip(group, shades, strict=True)):
            colour = hues[head] if len(group) == 1 else tuple(shade)
            dash = DASHES[(first_dash[head] + number) % len(DASHES)]
            styles[label] = LabelStyle(colour, dash)
    return styles


def class_colours(names: Iterable[str]) -> dict[str, Colour]:
    """A colour for each class, in the order given."""
    distinct = list(dict.fromkeys(names))
    few = len(distinct) <= 10
    palette = sns.color_palette("tab10") if few else sns.husl_palette(len(distinct), l=0.55)
    return dict(zip(distinct, palette, strict=False))


def use_error_scale(axis: Axes) -> None:
    """A logarithmic y axis with plain numbers, as many as have room; of an axis with its lines."""
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    decades = math.log10(high / low)
    subs = (1, 2, 3, 5, 7) if decades < 1.2 else (1, 2, 5) if decades < 2 else (1,)
    axis.yaxis.set_major_locator(LogLocator(subs=subs))
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
