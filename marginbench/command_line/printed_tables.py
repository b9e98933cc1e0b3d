"""The report's tables in the terminal."""

from __future__ import annotations

from typing import Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table as PrintingTable

from marginbench.reporting.report_state import PrintedTable
from marginbench.reporting.sections import Table

NOT_PRINTED = ("test set 95 %", "train error %", "gap", "R-precision %", "Recall@")
"""How the names of the columns begin that a terminal has no room for."""


def printed(table: Table) -> PrintedTable:
    """A table of the report, its cells as text."""
    rows = [[str(cell) for cell in row] for row in table.frame.itertuples(index=False)]
    return PrintedTable(table.caption, list(table.frame.columns), rows)


def print_table(console: Console, content: PrintedTable) -> None:
    """A comparison table, without the columns that a terminal has no room for."""
    shown = [
        column for column, name in enumerate(content.columns) if not name.startswith(NOT_PRINTED)
    ]
    table = PrintingTable(box=None, header_style="bold", pad_edge=False)
    for position, column in enumerate(shown):
        justify: Literal["left", "right"] = "right" if position else "left"
        table.add_column(content.columns[column], justify=justify, no_wrap=True)
    for row in content.rows:
        table.add_row(*(escape(row[column]) for column in shown))
    console.print(f"\n[bold]{escape(content.caption.split(':')[0])}[/]", highlight=False)
    console.print(table)
