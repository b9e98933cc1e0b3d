"""Whether a report still says what is there, so that it need not be made again."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marginbench.errors import DamagedFile
from marginbench.files import remove_temporaries, write_text_atomically
from marginbench.plugins.loading import loaded_plugin_files
from marginbench.processes import in_parts
from marginbench.runs.cell_status import CellStatus, State
from marginbench.runs.code_version import code_version, digest
from marginbench.runs.run_files import FILES, as_json, read_json, read_text
from marginbench.runs.run_folder import RunFolder
from marginbench.runs.suite_runs import SuiteRun

STATE_FILE = "made-from.json"
_NOT_SHOWN = ("checkpoint.pt",)
_ABANDONED_SECONDS = 3600.0


@dataclass(frozen=True)
class PrintedTable:
    """A table of the report as a terminal shows it.

    Attributes:
        caption: as in the report.
        columns: their names.
        rows: cells ready to print.
    """

    caption: str
    columns: list[str]
    rows: list[list[str]]


def fingerprint(
    run: SuiteRun,
    statuses: list[CellStatus],
    sections: list[str] | None,
    against: str | None = None,
) -> str:
    """A hash of all that a report is made from.

    That is: the cells in their order, the state and the files of each; those that have left the
    suite, which a note counts; the suite's description,
    baseline and sections; the source of engine, heads, suites and sections, of plug-in files and
    of the Python files beside them; the versions of Python and of the libraries that draw.

    Args:
        run: the suite and its cells.
        statuses: of the cells, as they are now.
        sections: what ``--section`` chose; None for the suite's own choice.
        against: the head that the others are compared with; None for the suite's baseline.
    """
    suite = run.suite
    inputs = {
        "suite": [suite.name, suite.description, suite.needs, suite.baseline, suite.sections],
        "equal_within": suite.equal_within,
        "plan": repr(run.plan),
        "sections": sections,
        "against": against,
        "cells": in_parts(_cell, list(zip(run.runs, statuses, strict=True))),
        "left": [left.key for left in run.left],
        "code": code_version(reports=True),
        "template": {
            file.name: digest(file)
            for pattern in ("*.jinja", "assets/*")
            for file in sorted(Path(__file__).parent.glob(pattern))
        },
        "plugins": {
            str(beside): digest(beside)
            for file in loaded_plugin_files()
            for beside in sorted(file.parent.glob("*.py"))
        },
    }
    text = json.dumps(inputs, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def forget(folder: Path) -> None:
    """A report is about to be made: until it is whole, nothing vouches for the old one."""
    (folder / STATE_FILE).unlink(missing_ok=True)
    # Another report may be written there at this moment.
    remove_temporaries(folder, older_than=_ABANDONED_SECONDS)


def remember(folder: Path, made_from: str, tables: dict[str, str]) -> None:
    """Note what the report in a folder was made from.

    Args:
        folder: with all of the report's files.
        made_from: :func:`fingerprint`, taken before the report was made.
        tables: caption by name of the tables that a terminal shows.
    """
    state = {"fingerprint": made_from, "tables": tables, "files": _sizes(folder)}
    write_text_atomically(folder / STATE_FILE, as_json(state, indent=2), durable=False)


def still_good(folder: Path, made_from: str) -> list[PrintedTable] | None:
    """The tables to print, if the report was made from just that and its files are all there.

    Args:
        folder: of the report.
        made_from: :func:`fingerprint` now.

    Returns:
        None if the report has to be made.
    """
    try:
        state = read_json(folder / STATE_FILE)
        if state["fingerprint"] != made_from or not _has(folder, state["files"]):
            return None
        return [_read(folder / f"{name}.csv", text) for name, text in state["tables"].items()]
    except (DamagedFile, LookupError, TypeError, ValueError, AttributeError, OSError, csv.Error):
        return None


def _cell(looked_at: tuple[RunFolder, CellStatus]) -> list[Any]:
    folder, status = looked_at
    # Of a damaged cell its message is shown; a pipe in a file's place would be read for ever.
    shown = [] if status.state == State.DAMAGED else FILES
    files = [digest(folder.path / name) for name in shown if name not in _NOT_SHOWN]
    return [folder.path.name, status.state.value, status.message, status.iteration, files]


def _sizes(folder: Path) -> dict[str, int]:
    return {
        path.name: path.stat().st_size
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name != STATE_FILE and not path.name.startswith(".")
    }


def _has(folder: Path, files: dict[str, int]) -> bool:
    sizes = _sizes(folder)
    return all(sizes.get(name) == size for name, size in files.items())


def _read(path: Path, caption: str) -> PrintedTable:
    columns, *rows = csv.reader(io.StringIO(read_text(path), newline=""))
    if not isinstance(caption, str) or any(len(row) != len(columns) for row in rows):
        raise ValueError(f"{path} is not the table that was written")
    return PrintedTable(caption, columns, rows)
