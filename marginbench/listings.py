"""The lists of suites and heads, as printed."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from marginbench.errors import UserError
from marginbench.grids import find_suite, suite_names
from marginbench.live_display import make_console


def print_suites() -> None:
    """Each suite with its number of cells and what it needs; one that fails says why."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("suite", "cells", "heads", "seeds", "needs", "what it is"):
        table.add_column(
            column, justify="right" if column in ("cells", "heads", "seeds") else "left"
        )
    for name in suite_names():
        suite = find_suite(name)
        try:
            cells = suite.cells()
            heads = {(cell.head.name, repr(cell.head.parameters)) for cell in cells}
            numbers = (str(len(cells)), str(len(heads)))
            described = Text(suite.description)
        except UserError as error:
            numbers, described = ("–", "–"), Text(str(error), style="red")
        table.add_row(name, *numbers, str(suite.seeds), Text(suite.needs), described)
    make_console().print(table)


def print_heads(names: list[str]) -> None:
    """Each head with formula, parameters and paper.

    Args:
        names: the heads to print; empty for all.

    Raises:
        UserError: an unknown head.
    """
    from marginbench.heads import head_class, head_names
    from marginbench.parameters import describe_parameters

    console = make_console()
    for name in names or head_names():
        head = head_class(name)
        console.print(Text(name, style="bold"))
        console.print(Text(f"  {head.formula or '(no formula given)'}"))
        for parameter, default, allowed in describe_parameters(f"head {name!r}", head):
            console.print(Text(f"    {parameter} = {default}   ({allowed})"))
        console.print(Text(f"  {head.paper or '(no source given)'}\n", style="dim"))
