"""A suite in a runs folder: its cells, resolved, and their run folders."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from marginbench.cells import Cell, Component, resolve_cell
from marginbench.errors import UserError
from marginbench.grids import FULL, Suite, find_suite, parse_component
from marginbench.heads import head_class
from marginbench.other_heads import with_other_heads
from marginbench.store import RunFolder


@dataclass(frozen=True)
class SuiteRun:
    """A suite's cells and where they live.

    Attributes:
        suite: as registered.
        folder: ``RUNS/SUITE``, or ``RUNS/SUITE-PROFILE`` for a profile other than "full".
        runs: one run folder per chosen cell, in the suite's order.
        of: how many cells the suite has, chosen or not.
    """

    suite: Suite
    folder: Path
    runs: list[RunFolder]
    of: int

    @property
    def report_folder(self) -> Path:
        return self.folder / "report"


def open_suite(
    name: str,
    runs_folder: Path,
    *,
    seeds: int | None = None,
    profile: str = FULL,
    only: Sequence[str] = (),
    more_heads: Sequence[str] = (),
) -> SuiteRun:
    """The cells of a suite, checked; nothing is written.

    Args:
        name: of the suite, or the path of its file.
        runs_folder: RUNS.
        seeds: how many; the profile's own number if None.
        profile: see :class:`marginbench.grids.Suite`.
        only: names of heads; none for all.
        more_heads: heads to put into every comparison beside the suite's own, as
            :func:`marginbench.grids.parse_component` reads them.

    Raises:
        UserError: an unknown suite, head or parameter, a value that is not allowed, the same cell
            twice, or a head in ``only`` that the suite does not have.
    """
    suite = find_suite(name)
    try:
        declared = with_other_heads(suite.cells(seeds, profile))
        declared += _with_heads(declared, [parse_component(text) for text in more_heads])
        cells = [resolve_cell(cell) for cell in declared]
    except UserError as error:
        raise UserError(f"suite {suite.name!r}: {error}") from error
    _refuse_twins(suite, cells)
    folder = runs_folder / (suite.name if profile == FULL else f"{suite.name}-{profile}")
    further = [parse_component(text).name for text in more_heads]
    chosen = _choose(suite, cells, [*only, *further] if only else [])
    return SuiteRun(suite, folder, [RunFolder(folder, cell) for cell in chosen], len(cells))


def check_writable(folder: Path) -> None:
    """Make the folder, and make sure that files can be written there.

    Raises:
        UserError: they cannot; the message says why.
    """
    probe = folder / f".writable-{uuid.uuid4().hex}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with probe.open("w"):
            pass
        probe.unlink()
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"the runs folder {str(folder)!r} cannot be written: {reason}; "
            f"choose another one with --runs"
        ) from error
    if not os.access(folder, os.W_OK):
        raise UserError(f"the runs folder {str(folder)!r} cannot be written; choose another one")


def _refuse_twins(suite: Suite, cells: list[Cell]) -> None:
    seen: dict[str, int] = {}
    for number, cell in enumerate(cells, start=1):
        first = seen.setdefault(cell.key, number)
        if first != number:
            raise UserError(
                f"suite {suite.name!r} has the same cell twice: number {first} and number "
                f"{number} are both {cell.slug} ({cell.key}); remove one"
            )


def _with_heads(cells: list[Cell], heads: list[Component]) -> list[Cell]:
    """Each head in every comparison and for every seed that the cells have."""
    places = {(cell.comparison, cell.seed): cell for cell in cells}
    return [cell.model_copy(update={"head": head}) for head in heads for cell in places.values()]


def _choose(suite: Suite, cells: list[Cell], only: list[str]) -> list[Cell]:
    there = list(dict.fromkeys(cell.head.name for cell in cells))
    for name in only:
        if name not in there:
            head_class(name)
            raise UserError(
                f"suite {suite.name!r} has no cell with the head {name!r}; "
                f"its heads: {', '.join(there)}"
            )
    return [cell for cell in cells if not only or cell.head.name in only]
