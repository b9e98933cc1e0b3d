"""The contract of a report section, and its registry.

A section is a pure function from the results frame (:mod:`marginbench.runs.results`) to tables and
figures. It trains nothing and never fails on an incomplete grid: it shows what there is and says
what is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from marginbench.errors import UserError
from marginbench.plugins.loading import REPORTS_GROUP, load_group
from marginbench.plugins.registry import Registry

if TYPE_CHECKING:
    import matplotlib.figure
    from pandas import DataFrame


@dataclass(frozen=True)
class Table:
    """A table of the report, written as HTML, CSV, Markdown and LaTeX.

    Attributes:
        name: stem of its files.
        caption: one or two sentences, so that the table stands by itself.
        frame: cells ready to print; the index is not printed.
    """

    name: str
    caption: str
    frame: DataFrame


@dataclass(frozen=True)
class Figure:
    """A figure of the report, written as PNG and SVG. The attributes are as for a table."""

    name: str
    caption: str
    figure: matplotlib.figure.Figure


@dataclass(frozen=True)
class SectionContent:
    """What a section shows, in the order: text, tables, figures. All empty: it is left out."""

    text: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)


SectionFunction = Callable[["DataFrame"], SectionContent]


@dataclass(frozen=True)
class Section:
    """A registered section: its function, its heading and its position (lower comes first)."""

    name: str
    title: str
    order: int
    function: SectionFunction


_registry: Registry[Section] = Registry("section", lambda: load_group(REPORTS_GROUP))


def section(name: str, *, title: str, order: int) -> Callable[[SectionFunction], SectionFunction]:
    """Function decorator: make a section known.

    Args:
        name: what ``--section`` and a suite call it.
        title: its heading.
        order: its position in the page; the built-in ones stand at 10, 20, ...

    Raises:
        UserError: the name is taken or malformed.
    """

    def add(function: SectionFunction) -> SectionFunction:
        entry = Section(name, title, order, function)
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
