"""The report: one self-contained page, and its tables and figures as files beside it."""

from __future__ import annotations

import base64
import html
import io
import re
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

import marginbench
from marginbench.errors import UserError
from marginbench.experiments.suites import Suite
from marginbench.files import write_atomically, write_text_atomically
from marginbench.reporting.sections import Figure, Section, SectionContent, Table, chosen_sections
from marginbench.text import printable, printable_line

DOTS_PER_INCH = 150
# What Markdown takes for more than a character; a link needs "](".
_MARKDOWN = re.compile(r"[\\`*_|$~]|\](?=\()")
_LATEX = {character: f"\\{character}" for character in "{}$&#_%"} | {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
}


@dataclass
class Report:
    """What was written.

    Attributes:
        page: ``index.html``.
        tables: every table.
        failed_sections: (name, error) of sections that raised.
    """

    page: Path
    tables: list[Table] = field(default_factory=list)
    failed_sections: list[tuple[str, str]] = field(default_factory=list)


def write_report(
    frame: pd.DataFrame,
    suite: Suite,
    folder: Path,
    section_names: list[str] | None = None,
    notes: Sequence[str] = (),
) -> Report:
    """Make the sections from the results frame, and write page and files.

    A section that fails is named in the page, and costs only itself.

    Args:
        frame: see :mod:`marginbench.runs.results`.
        suite: whose sections are shown, unless ``section_names`` says otherwise.
        folder: made if need be; its files are replaced.
        section_names: the sections to show; None for the suite's own choice.
        notes: on the results as a whole, shown first.

    Raises:
        UserError: an unknown section, or a folder that cannot be written.
    """
    wanted = section_names or (list(suite.sections) if suite.sections is not None else None)
    sections = chosen_sections(wanted)
    report = Report(folder / "index.html")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shown = [_make_section(section, frame, folder, report) for section in sections]
        page = _template().render(
            suite=suite,
            notes=notes,
            sections=[section for section in shown if section is not None],
            made=time.strftime("%Y-%m-%d %H:%M"),
            version=marginbench.__version__,
        )
        write_text_atomically(report.page, printable(page))
    except OSError as error:
        raise UserError(
            f"the report folder {str(folder)!r} cannot be written: {error.strerror or error}"
        ) from error
    return report


def _make_section(
    section: Section, frame: pd.DataFrame, folder: Path, report: Report
) -> dict[str, Any] | None:
    shown: dict[str, Any] = {"name": section.name, "title": section.title}
    try:
        content = section.function(frame)
        if not isinstance(content, SectionContent):
            raise TypeError(f"it returned {type(content).__name__}, not SectionContent")
        tables = [_write_table(table, folder) for table in content.tables]
        figures = [_write_figure(figure, folder) for figure in content.figures]
    except OSError:
        raise
    except (Exception, SystemExit) as error:
        # Whatever a plug-in's section does wrong, the others are worth having.
        message = f"{type(error).__name__}: {error}"
        report.failed_sections.append((section.name, message))
        write_text_atomically(folder / f"{section.name}-error.txt", traceback.format_exc())
        return shown | {"error": message}
    report.tables += content.tables
    if not (content.text or tables or figures):
        return None
    return shown | {"text": content.text, "tables": tables, "figures": figures}


def _write_table(table: Table, folder: Path) -> dict[str, Any]:
    frame = table.frame.map(lambda cell: printable_line(cell) if isinstance(cell, str) else cell)
    table = replace(table, frame=frame)
    write_text_atomically(folder / f"{table.name}.csv", frame.to_csv(index=False), durable=False)
    write_text_atomically(folder / f"{table.name}.md", markdown(frame), durable=False)
    write_text_atomically(folder / f"{table.name}.tex", latex(table), durable=False)
    return {
        "name": table.name,
        "caption": table.caption,
        "columns": [(column, _alignment(frame[column])) for column in frame.columns],
        "rows": frame.to_numpy(dtype=object).tolist(),
    }


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


def _write_figure(figure: Figure, folder: Path) -> dict[str, Any]:
    # Laid out once: both files then have the same positions, in half the time.
    figure.figure.draw_without_rendering()
    figure.figure.set_layout_engine("none")
    png, svg = io.BytesIO(), io.BytesIO()
    figure.figure.savefig(png, format="png", dpi=DOTS_PER_INCH)
    figure.figure.savefig(svg, format="svg", dpi=DOTS_PER_INCH)
    for buffer, ending in ((png, "png"), (svg, "svg")):
        content = buffer.getvalue()
        path = folder / f"{figure.name}.{ending}"
        write_atomically(path, lambda file, c=content: file.write(c), durable=False)  # type: ignore[misc]
    width, height = figure.figure.get_size_inches()
    return {
        "name": figure.name,
        "caption": figure.caption,
        "png": base64.b64encode(png.getvalue()).decode(),
        "width": round(width * 90),
        "height": round(height * 90),
    }


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("marginbench.reporting", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.jinja")
