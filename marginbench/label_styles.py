"""One look for each label, the same in every figure of a report."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import seaborn

DASHES = ("-", "--", "-.", ":")
COLOURS = 10


class LabelStyle(NamedTuple):
    """How a label is drawn: colour (red, green, blue from 0 to 1) and dash pattern."""

    colour: tuple[float, float, float]
    dash: str


def label_styles(labels: Iterable[str]) -> dict[str, LabelStyle]:
    """A style for each label: ten colours told apart by the colour-blind, then other dashes.

    Args:
        labels: of a report, in any order and with repetitions; the same set gives the same styles.
    """
    palette = seaborn.color_palette("colorblind", COLOURS)
    return {
        label: LabelStyle(palette[i % COLOURS], DASHES[i // COLOURS % len(DASHES)])
        for i, label in enumerate(sorted(set(labels)))
    }
