"""A table of the report as HTML cells, CSV, Markdown and LaTeX."""

from __future__ import annotations

import html
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from marginbench.files import write_text_atomically
from marginbench.reporting.sections import Link, Table
from marginbench.text import printable_line

# What Markdown takes for more than a character; a link needs "](".
_MARKDOWN = re.compile(r"[\\`*_|$~]|\](?=\()")
_LATEX = {character: f"\\{character}" for character in "{}$&#_%"} | {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
}


def write_table(table: Table, folder: Path) -> dict[str, Any]:
    """Write a table's files.

    Args:
        table: of a section.
        folder: of the page.

    Returns:
        What the template needs: name, caption, columns (title, alignment), rows.
    """
    shown = table.frame.map(_printable)
    plain = replace(table, frame=shown)
    write_text_atomically(folder / f"{table.name}.csv", shown.to_csv(index=False), durable=False)
    write_text_atomically(folder / f"{table.name}.md", markdown(shown), durable=False)
    write_text_atomically(folder / f"{table.name}.tex", latex(plain), durable=False)
    rows = table.frame.map(lambda cell: _in_page(cell, folder)).to_numpy(dtype=object).tolist()
    return {
        "name": table.name,
        "caption": table.caption,
        "columns": [(column, _alignment(shown[column])) for column in shown.columns],
        "rows": rows,
    }


def _printable(cell: Any) -> Any:
    return printable_line(cell) if isinstance(cell, str) else cell


def _in_page(cell: Any, folder: Path) -> Any:
    """The cell; of a link the target as seen from the page, none where there is no such file."""
    shown = _printable(cell)
    if isinstance(cell, Link) and cell.target.exists():
        relative = Path(os.path.relpath(cell.target.absolute(), folder.absolute()))
        return Link(shown, relative)
    return shown


def _alignment(column: pd.Series) -> str:
    """Numbers stand to the right: a column most of whose cells begin with one."""
    cells = [text for text in column.map(str) if text]
    numbers = [text for text in cells if re.match(r"[-+−]?\d|–$", text)]
    return "number" if cells and len(numbers) > len(cells) / 2 else "text"


def markdown(frame: pd.DataFrame) -> str:
    """The frame as a Markdown table; its cells are shown as they stand, whatever is in them."""

    def escaped(cell: object) -> str:
        return _MARKDOWN.sub(r"\\\g<0>", html.escape(str(cell), quote=False))

    shown = frame.map(escaped).rename(columns=escaped)
    return shown.to_markdown(index=False, disable_numparse=True) + "\n"


def latex(table: Table) -> str:
    """The table as a LaTeX float for the booktabs package."""
    styled = table.frame.style.format(escape="latex", formatter=str).hide(axis="index")
    styled = styled.format_index(escape="latex", axis=1)
    columns = "".join(
        "r" if _alignment(table.frame[column]) == "number" else "l" for column in table.frame
    )
    caption = "".join(_LATEX.get(character, character) for character in table.caption)
    text = styled.to_latex(
        hrules=True, column_format=columns, caption=caption, label=f"tab:{table.name}"
    )
    # Behind the end of a row "[" and "*" would be taken for its arguments.
    text = re.sub(r"^(?=[\[*])", "{}", text, flags=re.MULTILINE)
    for character, command in {"±": r"$\pm$", "−": "$-$", "–": "--", "×": r"$\times$"}.items():
        text = text.replace(character, command)
    return text
