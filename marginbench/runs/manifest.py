"""A suite's manifest, ``RUNS/SUITE/cells.jsonl``: every cell that was ever run or submitted.

``run`` and ``submit`` add to it; ``status``, ``logs``, ``cancel`` and ``report`` find there the
cells that are the suite's no longer. Beside it, ``resolution.json`` keeps what the parts of the
cells were resolved to: as long as the code is the same, torch need not be imported for it again.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Container, Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from marginbench.errors import DamagedFile, UserError
from marginbench.experiments.cells import Cell, cell_from_json
from marginbench.experiments.resolution import Resolver
from marginbench.files import read_regular, write_text_atomically
from marginbench.plugins.registrations import plugin_files
from marginbench.runs.code_version import code_version, digest
from marginbench.runs.run_files import read_sealed, sealed
from marginbench.runs.run_folder import RunFolder
from marginbench.text import quoted

CELLS = "cells.jsonl"
RESOLUTION = "resolution.json"
BEGIN = '{"key": "'
_MOST_BYTES = 2**30


def recorded_cells(suite_folder: Path, known: Container[str]) -> tuple[list[RunFolder], list[str]]:
    """The cells of the manifest without those known already, the oldest first.

    Args:
        suite_folder: ``RUNS/SUITE``.
        known: keys of cells.

    Returns:
        Their run folders, and a message for each line that does not read.
    """
    found: dict[str, RunFolder] = {}
    unread = []
    try:
        lines = _lines(suite_folder)
    except OSError as error:
        return [], [f"{suite_folder / CELLS} cannot be read: {error.strerror or error}"]
    for number, line in enumerate(lines, start=1):
        key = _key(line)
        if key is not None and (key in known or key in found):
            continue
        try:
            run = RunFolder(suite_folder, _cell(line))
            if run.key != key:
                raise UserError(f"its key is {quoted(key)}, that of its cell {run.key}")
        except UserError as error:
            unread.append(f"{suite_folder / CELLS}, line {number}: {error}")
            continue
        found[run.key] = run
    return list(found.values()), unread


def recorded_keys(suite_folder: Path) -> set[str]:
    """The keys of the manifest's whole lines; none if it cannot be read."""
    with contextlib.suppress(OSError):
        return _keys(suite_folder)
    return set()


def _keys(suite_folder: Path) -> set[str]:
    return {key for line in _lines(suite_folder) if (key := _key(line)) is not None}


def record_cells(suite_folder: Path, runs: Iterable[RunFolder]) -> None:
    """Add the cells that the manifest does not have yet.

    Several processes may do so at once: a cell that two of them add is there twice, which is read
    as once.

    Raises:
        OSError: the manifest cannot be read or written.
    """
    there = _keys(suite_folder)
    lines = [
        f'{BEGIN}{run.key}", "cell": {json.dumps(json.loads(run.cell.to_json()))}}}\n'
        for run in runs
        if run.key not in there
    ]
    if lines:
        path = suite_folder / CELLS
        suite_folder.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            end = file.seek(0, 2)
            file.seek(max(0, end - 1))
            # What a killed process began does not spoil the lines after it.
            begin = b"" if file.read(1) in (b"", b"\n") else b"\n"
            file.write(begin + "".join(lines).encode())


def _lines(suite_folder: Path) -> list[str]:
    path = suite_folder / CELLS
    if not os.path.lexists(path):
        return []
    content = read_regular(path, _MOST_BYTES)
    return [line.decode(errors="replace") for line in content.splitlines(keepends=True)]


def _key(line: str) -> str | None:
    """The key in a whole line, at little cost, since there may be thousands; else None."""
    whole = line.startswith(BEGIN) and line.endswith("}}\n")
    return line[len(BEGIN) :].partition('"')[0] if whole else None


def _cell(line: str) -> Cell:
    """The cell in a line.

    Raises:
        UserError: the line does not read.
    """
    try:
        cell = json.dumps(json.loads(line)["cell"])
    except (ValueError, TypeError, KeyError, RecursionError):
        raise UserError(f"it is not JSON with a key and a cell: {quoted(line.strip())}") from None
    return cell_from_json(cell)


def known_resolver(suite_folder: Path) -> Resolver:
    """A resolver that knows what was kept for the suite, if it was kept by the same code."""
    try:
        content = read_sealed(suite_folder / RESOLUTION, must=True)
        if content.get("code") == _code():
            return Resolver(content["parts"])
    except (DamagedFile, KeyError, ValidationError, AttributeError, TypeError):
        # It is made anew.
        pass
    return Resolver()


def keep_resolution(suite_folder: Path, resolver: Resolver) -> None:
    """Keep what a resolver has found for :func:`known_resolver`.

    Raises:
        OSError: it cannot be written.
    """
    content = sealed({"code": _code(), "parts": resolver.found()})
    text = json.dumps(content) + "\n"
    path = suite_folder / RESOLUTION
    with contextlib.suppress(OSError):
        if read_regular(path) == text.encode():
            return
    write_text_atomically(path, text, durable=False)


def _code() -> dict[str, Any]:
    """The code that resolves cells: the engine's, the plug-ins' and the libraries'."""
    plugins = {str(file): digest(file) for file in plugin_files()}
    return {**code_version(), "plugins": plugins}
