"""The report: one self-contained page, and its tables and figures as files beside it."""

from __future__ import annotations

import base64
import gzip
import platform
import re
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import pandas as pd
from markupsafe import Markup

import marginbench
from marginbench.errors import UserError
from marginbench.experiments.suites import Suite
from marginbench.files import write_text_atomically
from marginbench.processes import side_by_side
from marginbench.reporting.figure_files import write_figure
from marginbench.reporting.sections import (
    Finding,
    Section,
    SectionContent,
    Table,
    chosen_sections,
    sections_of,
)
from marginbench.reporting.table_files import latex_document, write_table
from marginbench.runs.cell_status import FINISHED
from marginbench.text import count, printable

ASSETS = Path(__file__).parent / "assets"
REFRESH = '<meta http-equiv="refresh" content="{}">'
_REFRESHING = re.compile(REFRESH.format(r"\d+"))
LIBRARY = ("vega.min.js", "vega-lite.min.js")


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
    command: str = "",
    more: Sequence[Section] = (),
    every: float | None = None,
) -> Report:
    """Make the sections from the results frame, and write page and files.

    A section that fails is named in the page, and costs only itself.

    Args:
        frame: see :mod:`marginbench.runs.results`.
        suite: whose sections are shown, unless ``section_names`` says otherwise.
        folder: made if need be; its files are replaced.
        section_names: the sections to show; None for the suite's own choice.
        notes: on the results as a whole, shown first.
        command: what made the page, for its foot.
        more: sections beside those that are registered.
        every: seconds after which the page loads itself again in a browser; None for never.

    Raises:
        UserError: an unknown section, or a folder that cannot be written.
    """
    chosen = chosen_sections(section_names) if section_names else sections_of(suite.sections)
    sections = sorted([*chosen, *more], key=lambda section: (section.order, section.name))
    report = Report(folder / "index.html")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        made = side_by_side([partial(_make_section, one, frame, folder) for one in sections])
        shown = [one.shown for one in made if one.shown is not None]
        for section, one in zip(sections, made, strict=True):
            report.tables += one.tables
            report.failed_sections += [] if one.error is None else [(section.name, one.error)]
        charts = any(figure["chart"] for one in shown for figure in one.get("figures", ()))
        page = _template().render(
            suite=suite,
            notes=notes,
            refresh=Markup(REFRESH.format(max(1, round(every)))) if every else "",
            ended=_finished(frame) if every else "",
            sections=shown,
            made=time.strftime("%Y-%m-%d %H:%M"),
            command=command,
            versions=_versions(),
            style=Markup(_asset("page.css")),
            script=Markup(_asset("page.js")),
            library=_library() if charts else "",
        )
        tables = latex_document([table.name for table in report.tables])
        write_text_atomically(folder / "tables.tex", tables, durable=False)
        write_text_atomically(report.page, printable(page))
    except OSError as error:
        raise UserError(
            f"the report folder {str(folder)!r} cannot be written: {error.strerror or error}"
        ) from error
    return report


def _finished(frame: pd.DataFrame) -> str:
    finished = int(frame["state"].isin([state.value for state in FINISHED]).sum())
    return f"{finished:,} of {count(len(frame), 'cell')} finished"


def without_refresh(page: str) -> str:
    """A page that does not load itself again, of one that does."""
    return _REFRESHING.sub("", page)


class _Made(NamedTuple):
    """A section: what the template shows of it, if anything, its tables, and why it failed."""

    shown: dict[str, Any] | None
    tables: list[Table]
    error: str | None = None


def _make_section(section: Section, frame: pd.DataFrame, folder: Path) -> _Made:
    shown: dict[str, Any] = {"name": section.name, "title": section.title}
    try:
        content = section.content(frame)
        if not isinstance(content, SectionContent):
            raise TypeError(f"it returned {type(content).__name__}, not SectionContent")
        tables = [write_table(table, folder) for table in content.tables]
        figures = [write_figure(figure, folder) for figure in content.figures]
    except OSError:
        raise
    except (Exception, SystemExit) as error:
        # Whatever a plug-in's section does wrong, the others are worth having.
        message = f"{type(error).__name__}: {error}"
        write_text_atomically(folder / f"{section.name}-error.txt", traceback.format_exc())
        return _Made(shown | {"error": message}, [], message)
    if not (content.text or tables or figures or content.findings):
        return _Made(None, content.tables)
    shown |= {
        "text": content.text,
        "tables": tables,
        "figures": figures,
        "findings": _by_subject(content.findings),
    }
    return _Made(shown, content.tables)


def _by_subject(findings: list[Finding]) -> list[tuple[str, list[Finding]]]:
    grouped: dict[str, list[Finding]] = {}
    for finding in findings:
        grouped.setdefault(finding.subject, []).append(finding)
    return list(grouped.items())


def _library() -> str:
    """Vega and Vega-Lite, packed: a page of 0.8 MB more would be read by nobody's mail."""
    code = [_asset(name).rsplit("//# sourceMappingURL", 1)[0] for name in LIBRARY]
    return base64.b64encode(gzip.compress("\n".join(code).encode(), mtime=0)).decode()


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _versions() -> str:
    names = ("numpy", "pandas", "scipy", "matplotlib")
    found = [f"{name} {version(name)}" for name in names]
    return ", ".join(
        [f"marginbench {marginbench.__version__}", f"Python {platform.python_version()}", *found]
    )


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("marginbench.reporting", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.jinja")
