"""A figure of the report as files, and as what the page draws in its place."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from PIL import Image

from marginbench.files import write_atomically, write_text_atomically
from marginbench.reporting.page_links import csv_link
from marginbench.reporting.sections import Figure

DOTS_PER_INCH = 200
PIXELS_PER_INCH = 130
"""Of a figure on the page."""
_NO_LAYOUT: dict[Any, Any] = {"figure.autolayout": False, "figure.constrained_layout.use": False}
# A paper's PDF has its fonts in it, as TrueType; an SVG has paths, which look alike everywhere.
_FONTS: dict[Any, Any] = {"pdf.fonttype": 42, "svg.fonttype": "path"}
# Without the time of the day and random names of an SVG's parts the same figure is the same file.
_NAMES: dict[Any, Any] = {"svg.hashsalt": "marginbench"}
_OPTIONS: dict[str, dict[str, Any]] = {
    "png": {},
    "svg": {"metadata": {"Date": None}},
    "pdf": {"metadata": {"CreationDate": None}},
}
ENDINGS = tuple(_OPTIONS)


def write_figure(figure: Figure, folder: Path) -> dict[str, Any]:
    """Write what the page needs of a figure: PNG, SVG, and its data as CSV.

    Args:
        figure: of a section.
        folder: of the page.

    Returns:
        What the template needs: name, caption, png (base64), width and height in pixels, data (a
        file's name, or None), data_link (to it), chart (JSON, or None).
    """
    png, _ = save_figure(figure, folder / figure.name, ("png", "svg"))
    data = link = None
    if figure.data is not None:
        data, content = f"{figure.name}-data.csv", _csv(figure.data)
        write_text_atomically(folder / data, content, durable=False)
        # A chart's data are in the page already, and its script offers them.
        link = data if figure.interactive else csv_link(data, content)
    width, height = figure.figure.get_size_inches()
    return {
        "name": figure.name,
        "caption": figure.caption,
        "png": base64.b64encode(with_few_colours(png)).decode(),
        "width": round(width * PIXELS_PER_INCH),
        "height": round(height * PIXELS_PER_INCH),
        "data": data,
        "data_link": link,
        "chart": _chart(figure),
    }


def with_few_colours(png: bytes) -> bytes:
    """The picture with 256 colours, a third of the size: for a page, which holds all of them."""
    buffer = io.BytesIO()
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    # Median cut keeps white white and the tints of bands, which the fast method does not.
    few = picture.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    # The ninth level takes three times as long, for 3 % less.
    few.save(buffer, format="png", compress_level=8)
    return buffer.getvalue()


def save_figure(figure: Figure, stem: Path, endings: Sequence[str] = ENDINGS) -> list[bytes]:
    """Write a figure as ``STEM.png``, ``STEM.svg``, ``STEM.pdf``, as far as named.

    Returns:
        The files' contents, in the order of ``endings``.
    """
    # Laid out once: all files then have the same positions. With no engine at all, even "none",
    # matplotlib draws once a file, not twice.
    layout = figure.figure.get_layout_engine()
    if layout is not None:
        layout.execute(figure.figure)
    contents = []
    with mpl.rc_context(_FONTS | _NAMES | _NO_LAYOUT):
        figure.figure.set_layout_engine(None)
        for ending in endings:
            buffer = io.BytesIO()
            figure.figure.savefig(buffer, format=ending, dpi=DOTS_PER_INCH, **_OPTIONS[ending])
            contents.append(content := buffer.getvalue())
            path = stem.with_name(f"{stem.name}.{ending}")
            write_atomically(path, lambda file, c=content: file.write(c), durable=False)  # type: ignore[misc]
    return contents


def _csv(data: pd.DataFrame) -> str:
    return data.to_csv(index=False, float_format="%.7g")


def _chart(figure: Figure) -> str | None:
    """What the page's script draws, as JSON that may stand in HTML."""
    if figure.interactive is None or figure.data is None:
        return None
    numeric = figure.data.select_dtypes("number").columns
    chart = {
        "panels": figure.interactive.panels,
        "series": figure.interactive.series,
        "shown": figure.interactive.shown,
        "csv": _csv(figure.data),
        "parse": {
            str(name): "number" if name in numeric else "string" for name in figure.data.columns
        },
    }
    return json.dumps(chart, ensure_ascii=False).replace("<", "\\u003c")
