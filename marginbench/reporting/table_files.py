"""A table of the report as HTML cells, CSV, Markdown and LaTeX."""

from __future__ import annotations

import html
import os
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from marginbench.files import write_text_atomically
from marginbench.reporting.page_links import csv_link
from marginbench.reporting.sections import Link, Table
from marginbench.text import printable_line

# What Markdown takes for more than a character; a link needs "](".
_MARKDOWN = re.compile(r"[\\`*_|$~]|\](?=\()")
_LATEX = {character: f"\\{character}" for character in "{}$&#_%"} | {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
}
_SPECIAL = re.compile(r"[\\{}$&#_%^~]|[^\x00-\x7f]")
# What stands in the tables' own words, and a Greek name's letters.
_SYMBOLS = {
    **{"±": r"$\pm$", "−": "$-$", "–": "--", "—": "---", "×": r"$\times$", "·": r"$\cdot$"},
    **{"≤": r"$\leq$", "≥": r"$\geq$", "…": r"\dots{}", "∞": r"$\infty$", "→": r"$\to$"},
    **{"₁": "$_1$", "₂": "$_2$", "²": "$^2$", "°": r"$^\circ$", "‖": r"$\|$", "∈": r"$\in$"},
    **{"’": "'", "“": "``", "”": "''", "∕": "/", "√": r"$\surd$", "⟨": r"$\langle$"},
    **{"⟩": r"$\rangle$", "≠": r"$\neq$", "≈": r"$\approx$", "ᵢ": "$_i$", "ⱼ": "$_j$"},
    **{"α": r"$\alpha$", "β": r"$\beta$", "γ": r"$\gamma$", "δ": r"$\delta$", "ε": r"$\epsilon$"},
    **{"θ": r"$\theta$", "λ": r"$\lambda$", "μ": r"$\mu$", "π": r"$\pi$", "σ": r"$\sigma$"},
    **{"τ": r"$\tau$", "φ": r"$\phi$", "ψ": r"$\psi$", "ω": r"$\omega$", "Δ": r"$\Delta$"},
}
# Of Latin scripts, with which LaTeX's own fonts can do.
_LETTERS = frozenset("äöüÄÖÜßæøåÆØÅœŒłŁ")
_ACCENTS = frozenset("\u0300\u0301\u0302\u0303\u0308\u030c\u0327\u030a")


_HYPHEN = re.compile(r"(?<![\w.)\]-])-(?=\.?\d)")
"""For minus: before a number, and behind nothing that it could join or subtract from."""


def write_table(table: Table, folder: Path) -> dict[str, Any]:
    """Write a table's files.

    Args:
        table: of a section.
        folder: of the page.

    Returns:
        What the template needs: name, caption, columns (title, alignment), rows,
        csv_link.
    """
    shown = table.frame.map(_printable)
    plain = replace(table, frame=shown)
    csv = shown.to_csv(index=False)
    write_text_atomically(folder / f"{table.name}.csv", csv, durable=False)
    write_text_atomically(folder / f"{table.name}.md", markdown(shown), durable=False)
    write_text_atomically(folder / f"{table.name}.tex", latex(plain), durable=False)
    rows = table.frame.map(lambda cell: _in_page(cell, folder)).to_numpy(dtype=object).tolist()
    return {
        "name": table.name,
        "caption": table.caption,
        "columns": [(column, _alignment(shown[column])) for column in shown.columns],
        "rows": rows,
        "csv_link": csv_link(f"{table.name}.csv", csv),
    }


def _printable(cell: Any) -> Any:
    cell = cell.text if isinstance(cell, Link) else cell
    return printable_line(cell) if isinstance(cell, str) else cell


def _in_page(cell: Any, folder: Path) -> Any:
    """The cell; of a link the target as seen from the page, none where there is no such file."""
    shown = _printable(cell)
    if isinstance(cell, Link) and cell.target.exists():
        return Link(shown, Path(os.path.relpath(cell.target.absolute(), folder.absolute())))
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
    columns = "".join(
        "r" if _alignment(table.frame[column]) == "number" else "l" for column in table.frame
    )
    head, *rows = (
        # Behind the end of a row "[" and "*" would be taken for its arguments.
        re.sub(r"^(?=[\[*])", "{}", " & ".join(_escaped(str(cell)) for cell in row)) + r" \\"
        for row in (table.frame.columns, *table.frame.itertuples(index=False, name=None))
    )
    lines = [
        r"\begin{table}",
        rf"\caption{{{_escaped(table.caption)}}}",
        rf"\label{{tab:{table.name}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        *(r"\toprule", head, r"\midrule", *rows, r"\bottomrule"),
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def latex_document(names: Sequence[str]) -> str:
    """A document that shows every table: it compiles as it is, in the folder of their files."""
    inputs = "\n".join(rf"\input{{{name}}}" for name in names)
    return (
        "\\documentclass{article}\n\\usepackage[T1]{fontenc}\n\\usepackage{booktabs}\n"
        f"\\begin{{document}}\n{inputs}\n\\end{{document}}\n"
    )


def _escaped(text: str) -> str:
    return _SPECIAL.sub(lambda found: _in_latex(found[0]), _HYPHEN.sub("−", text))


def _in_latex(character: str) -> str:
    """A character that pdflatex can set: a name may hold any."""
    if character in _LATEX:
        return _LATEX[character]
    if character in _SYMBOLS:
        return _SYMBOLS[character]
    plain = unicodedata.normalize("NFKD", character)
    if character in _LETTERS or (len(plain) == 2 and plain[0].isascii() and plain[1] in _ACCENTS):
        return character
    return rf"\texttt{{U+{ord(character):04X}}}"
