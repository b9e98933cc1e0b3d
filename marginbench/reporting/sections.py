"""The contract of a report section, and its registry.

A section is a pure function from the results frame (:mod:`marginbench.runs.results`) to tables and
figures. It trains nothing and never fails on an incomplete grid: it shows what there is and says
what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marginbench.errors import UserError
from marginbench.plugins.loading import REPORTS_GROUP, load_group
from marginbench.plugins.registry import Registry
from marginbench.text import distinct

if TYPE_CHECKING:
    import matplotlib.figure
    from pandas import DataFrame


@dataclass(frozen=True)
class Table:
    """A table of the report, written as HTML, CSV, Markdown and LaTeX.

    Attributes:
        name: stem of its files.
        caption: one or two sentences, so that the table stands by itself.
        frame: cells ready to print; a :class:`Link` is one in the page; the index is not printed.
    """

    name: str
    caption: str
    frame: DataFrame


@dataclass(frozen=True)
class Link:
    """A cell of a table that is a link in the page, and its text elsewhere.

    Attributes:
        text: shown.
        target: the path of a file or folder; the page names it relative to itself.
    """

    text: str
    target: Path

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Interactive:
    """What the page draws in place of a still figure: panels, and series to switch on and off.

    Attributes:
        panels: Vega-Lite specifications without data and width, in the page's order; each may use
            the parameter ``shown``, the names of the series that are switched on.
        series: (name, colour as in CSS, dash pattern of its line in pixels, none for solid).
        shown: the names that are switched on at first; None for all.
    """

    panels: Sequence[Mapping[str, Any]]
    series: Sequence[tuple[str, str, Sequence[int]]]
    shown: Sequence[str] | None = None


@dataclass(frozen=True)
class Figure:
    """A figure of the report, written as PNG and SVG, and for papers as PDF.

    Attributes:
        name, caption: as for a table.
        figure: the still picture.
        data: what is drawn, one row a mark; written as CSV. None where it is no table.
        interactive: the same data for the page; needs ``data``.
    """

    name: str
    caption: str
    figure: matplotlib.figure.Figure
    data: DataFrame | None = None
    interactive: Interactive | None = None


@dataclass(frozen=True)
class Finding:
    """A line of the report's opening.

    Attributes:
        subject: what it is about: "ten digits: test error against softmax, 3 seeds".
        kind: the verdict, or "not fitted" of heads that have not fitted their training images.
        items: of whom that is said, each with its numbers, in a line each.
    """

    subject: str
    kind: str
    items: Sequence[str]


@dataclass(frozen=True)
class SectionContent:
    """What a section shows: findings, text, figures, tables. All empty: it is left out."""

    text: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


SectionFunction = Callable[["DataFrame"], SectionContent]


@dataclass(frozen=True)
class Section:
    """A registered section: its function, its heading and its position (lower comes first).

    ``always``: shown too where a suite names its sections and leaves it out.
    """

    name: str
    title: str
    order: int
    function: SectionFunction
    always: bool = False

    def content(self, results: DataFrame) -> SectionContent:
        """What the section makes of a results frame, its figures in the style of the report."""
        # Imported here: whoever only names a section does without matplotlib.
        from marginbench.reporting.drawing import paper_style

        with paper_style():
            content = self.function(results)
        return _named_apart(content) if isinstance(content, SectionContent) else content


def _named_apart(content: SectionContent) -> SectionContent:
    """No two tables or figures of one name: they are files, and settings may be named alike."""
    tables = distinct((table.name for table in content.tables), "{}-{}")
    figures = distinct((figure.name for figure in content.figures), "{}-{}")
    return replace(
        content,
        tables=[replace(t, name=n) for t, n in zip(content.tables, tables, strict=True)],
        figures=[replace(f, name=n) for f, n in zip(content.figures, figures, strict=True)],
    )


_registry: Registry[Section] = Registry("section", lambda: load_group(REPORTS_GROUP))


def section(
    name: str, *, title: str, order: int, always: bool = False
) -> Callable[[SectionFunction], SectionFunction]:
    """Function decorator: make a section known.

    Args:
        name: what ``--section`` and a suite call it.
        title: its heading.
        order: its position in the page; the built-in ones stand at 5, 10, 20, ...
        always: whether a suite that names its sections has this one too.

    Raises:
        UserError: the name is taken or malformed.
    """

    def add(function: SectionFunction) -> SectionFunction:
        entry = Section(name, title, order, function, always)
        _registry.add(name, entry, _registry.definition(function))
        return function

    return add


def chosen_sections(names: list[str] | None = None) -> list[Section]:
    """The sections of those names, or all, in the page's order.

    Raises:
        UserError: an unknown name.
    """
    if names is not None and not names:
        raise UserError("no section chosen; there are: " + ", ".join(_registry.names()))
    entries = [_registry.get(name) for name in (names or _registry.names())]
    return sorted(entries, key=lambda entry: (entry.order, entry.name))


def sections_of(names: Sequence[str] | None) -> list[Section]:
    """What a suite that names these sections has: those, and the ones that are always shown.

    Raises:
        UserError: an unknown name.
    """
    if names is None:
        return chosen_sections()
    always = [name for name in _registry.names() if _registry.get(name).always]
    return chosen_sections(list(dict.fromkeys([*names, *always])))
