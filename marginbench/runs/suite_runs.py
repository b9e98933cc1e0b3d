"""A suite in a runs folder: its cells, resolved, and their run folders."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from marginbench.errors import UserError
from marginbench.experiments.cells import Cell
from marginbench.experiments.grids import parse_component
from marginbench.experiments.resolution import Resolver
from marginbench.experiments.suites import BASELINE, FULL, Suite, find_suite
from marginbench.plugins.component import Component
from marginbench.plugins.registrations import check_known
from marginbench.runs.manifest import (
    keep_resolution,
    known_resolver,
    record_cells,
    recorded_cells,
    recorded_keys,
)
from marginbench.runs.run_folder import RunFolder
from marginbench.runs.seed_plan import SeedPlan, keep_plan, read_plan
from marginbench.text import quoted


@dataclass(frozen=True)
class SuiteRun:
    """A suite's cells and where they live.

    Attributes:
        suite: as registered.
        folder: ``RUNS/SUITE``, or ``RUNS/SUITE-SIZE`` for a size other than "full".
        runs: one run folder per chosen cell, in the suite's order.
        of: how many cells the suite has, chosen or not.
        further: cells of the manifest that are the suite's but for a seed beyond its own.
        left: cells of the manifest that are no longer the suite's.
        unread: a message for each line of the manifest that does not read.
        resolver: what resolved the cells.
        plan: of a suite that is run until it is decided.
    """

    suite: Suite
    folder: Path
    runs: list[RunFolder]
    of: int
    further: list[RunFolder] = field(default_factory=list)
    left: list[RunFolder] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    resolver: Resolver = field(default_factory=Resolver)
    plan: SeedPlan | None = None

    def record(self) -> None:
        """Add the cells to the suite's manifest; keep what they were resolved to, and the plan.

        Raises:
            UserError: the suite's folder cannot be written.
        """
        try:
            record_cells(self.folder, self.runs)
            keep_resolution(self.folder, self.resolver)
            if self.plan is not None:
                keep_plan(self.folder, self.plan)
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"{self.folder} cannot be written: {reason}") from error

    def with_runs(self, runs: list[RunFolder]) -> Self:
        """With some of the cells only."""
        return replace(self, runs=runs, of=len(runs))

    @property
    def report_folder(self) -> Path:
        return self.folder / "report"


def open_suite(
    name: str,
    runs_folder: Path,
    *,
    seeds: int | None = None,
    size: str = FULL,
    only: Sequence[str] = (),
    more_heads: Sequence[str] = (),
    gone_heads: bool = False,
    to_be_resolved: Callable[[list[Cell]], object] = lambda cells: None,
) -> SuiteRun:
    """The cells of a suite, checked; nothing is written.

    Args:
        name: of the suite, or the path of its file.
        runs_folder: RUNS.
        seeds: how many. If None, the size's own number, or, of a suite that is run until it is
            decided, those of the first look and all that later looks have asked for.
        size: see :class:`marginbench.experiments.suites.Suite`.
        only: names of heads; none for all.
        more_heads: heads to put into every comparison beside the suite's own, as
            :func:`marginbench.experiments.grids.parse_component` reads them.
        gone_heads: whether a head in ``only`` may be one that has left the suite.
        to_be_resolved: called with the cells as declared before they are resolved, if that takes
            torch.

    Raises:
        UserError: an unknown suite, head or parameter, a value that is not allowed, the
            same cell twice, a baseline or a head in ``only`` that the suite does not have.
    """
    suite = find_suite(name)
    folder = suite_folder(suite, runs_folder, size)
    plan = read_plan(folder)
    by_plan = plan if seeds is None else None
    own = suite.cells(by_plan.max_seeds if by_plan else seeds, size)
    resolve = known_resolver(folder)
    if not resolve.found():
        to_be_resolved(own)
    try:
        declared = resolve.with_other_heads(own)
        declared += _with_heads(declared, [parse_component(text) for text in more_heads])
        _check_baseline(suite, declared)
        cells = [resolve(cell) for cell in declared]
    except UserError as error:
        raise UserError(f"suite {suite.name!r}: {error}") from error
    runs = [RunFolder(folder, cell) for cell in cells]
    _refuse_twins(suite, runs)
    if by_plan:
        asked = recorded_keys(folder)
        runs = [run for run in runs if run.cell.seed < by_plan.looks[0] or run.key in asked]
    further, left, unread = _recorded_besides(folder, runs, seeds)
    heads = [*only, *(parse_component(text).name for text in more_heads)] if only else []
    _check_heads(suite, runs, [*further, *left], heads, gone_heads)
    chosen, further, left = (
        [run for run in part if not heads or run.cell.head.name in heads]
        for part in (runs, further, left)
    )
    return SuiteRun(suite, folder, chosen, len(runs), further, left, unread, resolve, plan)


def suite_folder(suite: Suite, runs_folder: Path, size: str = FULL) -> Path:
    """Where a suite's run folders are."""
    return runs_folder / (suite.name if size == FULL else f"{suite.name}-{size}")


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


def _check_baseline(suite: Suite, cells: list[Cell]) -> None:
    """A suite that names no baseline may do without one; a baseline that is named is there."""
    heads = list(dict.fromkeys(cell.head.name for cell in cells))
    if suite.baseline not in heads and suite.baseline != BASELINE:
        raise UserError(
            f"baseline = {quoted(suite.baseline)} is not allowed; allowed: one of its heads: "
            + ", ".join(heads)
        )


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
    comparisons = {(cell.comparison, cell.seed): cell for cell in cells}
    return [
        cell.model_copy(update={"head": head}) for head in heads for cell in comparisons.values()
    ]


def _recorded_besides(
    folder: Path, runs: list[RunFolder], seeds: int | None
) -> tuple[list[RunFolder], list[RunFolder], list[str]]:
    """Of a whole suite: see the last three attributes of :class:`SuiteRun`."""
    found, unread = recorded_cells(folder, {run.key for run in runs})
    if not found:
        return [], [], unread
    of_suite = {_key_but_for_seed(run.cell) for run in runs}
    further: list[RunFolder] = []
    left: list[RunFolder] = []
    for run in found:
        if seeds is None or run.cell.seed < seeds:
            (further if _key_but_for_seed(run.cell) in of_suite else left).append(run)
    return further, left, unread


def _key_but_for_seed(cell: Cell) -> str:
    return cell.model_copy(update={"seed": 0}).key


def _check_heads(
    suite: Suite,
    runs: list[RunFolder],
    others: list[RunFolder],
    only: list[str],
    gone_heads: bool,
) -> None:
    gone = {run.cell.head.name for run in others}
    there = list(dict.fromkeys(run.cell.head.name for run in runs))
    there += [name for name in sorted(gone) if gone_heads and name not in there]
    for name in only:
        if name not in there:
            if name in gone:
                raise UserError(
                    f"suite {suite.name!r} has no cell with the head {quoted(name)}: those that "
                    f"were run or submitted before have left it; its heads: {', '.join(there)}"
                )
            check_known("head", name)
            raise UserError(
                f"suite {suite.name!r} has no cell with the head {quoted(name)}; "
                f"its heads: {', '.join(there)}"
            )
