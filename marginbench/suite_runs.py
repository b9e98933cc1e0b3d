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
from marginbench.other_heads import with_other_heads
from marginbench.static_catalog import LightResolver, check_known
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
    light: bool = False,
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
        light: check the cells without torch (:mod:`marginbench.static_catalog`).

    Raises:
        UserError: an unknown suite, head or parameter, a value that is not allowed, the same cell
            twice, or a head in ``only`` that the suite does not have.
    """
    suite = find_suite(name)
    try:
        declared = with_other_heads(suite.cells(seeds, profile), light)
        declared += _with_heads(declared, [parse_component(text) for text in more_heads])
        resolve = LightResolver() if light else resolve_cell
        cells = [resolve(cell) for cell in declared]
    except UserError as error:
        raise UserError(f"suite {suite.name!r}: {error}") from error
    folder = runs_folder / (suite.name if profile == FULL else f"{suite.name}-{profile}")
    runs = [RunFolder(folder, cell) for cell in cells]
    _refuse_twins(suite, runs)
    further = [parse_component(text).name for text in more_heads]
    chosen = _choose(suite, runs, [*only, *further] if only else [])
    return SuiteRun(suite, folder, chosen, len(runs))


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


def _refuse_twins(suite: Suite, runs: list[RunFolder]) -> None:
    seen: dict[str, int] = {}
    for number, run in enumerate(runs, start=1):
        first = seen.setdefault(run.key, number)
        if first != number:
            raise UserError(
                f"suite {suite.name!r} has the same cell twice: number {first} and number "
                f"{number} are both {run.cell.slug} ({run.key}); remove one"
            )


def _with_heads(cells: list[Cell], heads: list[Component]) -> list[Cell]:
    """Each head in every comparison and for every seed that the cells have."""
    if not heads:
        return []
    places = {(cell.comparison, cell.seed): cell for cell in cells}
    return [cell.model_copy(update={"head": head}) for head in heads for cell in places.values()]


def _choose(suite: Suite, runs: list[RunFolder], only: list[str]) -> list[RunFolder]:
    there = list(dict.fromkeys(run.cell.head.name for run in runs))
    for name in only:
        if name not in there:
            check_known("head", name)
            raise UserError(
                f"suite {suite.name!r} has no cell with the head {name!r}; "
                f"its heads: {', '.join(there)}"
            )
    return [run for run in runs if not only or run.cell.head.name in only]
