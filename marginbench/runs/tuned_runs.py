"""A suite's search in a runs folder: ``RUNS/SUITE-tuned`` with trials and final runs.

``search.json`` there has the searches that were last asked for, so that what only looks at them
needs neither torch nor the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from marginbench.errors import DamagedFile, UserError
from marginbench.experiments.cells import Cell
from marginbench.experiments.grids import EVERY_OTHER_HEAD
from marginbench.experiments.head_search import HeadSearch
from marginbench.experiments.search import TRIALS
from marginbench.experiments.search_plan import plan_searches
from marginbench.experiments.suites import FULL, TUNED, Suite, find_suite
from marginbench.files import write_text_atomically
from marginbench.plugins.registrations import check_known
from marginbench.runs.manifest import recorded_cells
from marginbench.runs.run_files import as_json, read_json
from marginbench.runs.run_folder import RunFolder
from marginbench.runs.search_results import SearchResult, search_result
from marginbench.runs.suite_runs import SuiteRun, open_suite
from marginbench.text import quoted

SEARCH_FILE = "search.json"
SECTION = "tuning"
"""The section of the report that every tuned suite has."""


@dataclass(frozen=True)
class TunedRun(SuiteRun):
    """A suite's trials and, of the searches that are complete, the final runs.

    Attributes:
        searches: all of the suite, chosen by ``--only`` or not.
        own_folder: where the suite's own runs are, as ``run`` makes them.
        heads: those chosen; none for all.
        trials, repeats: as asked for; see :func:`open_tuned`.
    """

    searches: tuple[HeadSearch, ...] = ()
    own_folder: Path = field(default_factory=Path)
    heads: tuple[str, ...] = ()
    trials: int = TRIALS
    repeats: int | None = None

    @cached_property
    def results(self) -> list[SearchResult]:
        """Of the chosen heads' searches, as they were when first asked for."""
        return [
            search_result(search, self.folder, self.own_folder)
            for search in self.searches
            if not self.heads or search.head in self.heads
        ]

    @property
    def incomplete(self) -> list[SearchResult]:
        """The searches with trials that have no result."""
        return [result for result in self.results if not result.is_complete]

    def record(self) -> None:
        """As of a suite, and write what the searches are."""
        super().record()
        content = {
            "trials": self.trials,
            "repeats": self.repeats,
            "searches": [search.model_dump(mode="json") for search in self.searches],
        }
        try:
            write_text_atomically(self.folder / SEARCH_FILE, as_json(content))
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"{self.folder} cannot be written: {reason}") from error


def open_tuned(
    name: str,
    runs_folder: Path,
    *,
    trials: int | None = None,
    repeats: int | None = None,
    seeds: int | None = None,
    size: str = FULL,
    only: Sequence[str] = (),
    more_heads: Sequence[str] = (),
) -> TunedRun:
    """The searches of a suite; nothing is written.

    Args:
        name: of the suite, or the path of its file.
        runs_folder: RUNS.
        trials: for every head; None for as many as were last asked for here, or the suite's number.
        repeats: see :func:`marginbench.experiments.search_plan.plan_searches`; None likewise.
        seeds: of the final runs; None for as many as repeats, or for the size's own number.
        size, only, more_heads: see :func:`marginbench.runs.suite_runs.open_suite`.

    Raises:
        UserError: see there, and :func:`plan_searches`.
    """
    last = _last_asked_for(runs_folder, name, size)
    trials = last.get("trials") if trials is None else trials
    repeats = last.get("repeats") if repeats is None else repeats
    if seeds is None and repeats is not None and repeats > 1:
        seeds = repeats
    # The heads of ``only`` are checked there; the plan is of all of them.
    heads = {
        run.cell.head.name
        for run in open_suite(
            name, runs_folder, seeds=seeds, size=size, only=only, more_heads=more_heads
        ).runs
    }
    whole = open_suite(name, runs_folder, seeds=seeds, size=size, more_heads=more_heads)
    suite = whole.suite
    try:
        _check_search_heads(suite, [run.cell for run in whole.runs])
        searches = plan_searches(
            [run.cell for run in whole.runs],
            suite.search,
            whole.resolver,
            trials=suite.search.trials if trials is None else trials,
            repeats=repeats,
        )
    except UserError as error:
        raise UserError(f"suite {suite.name!r}: {error}") from error
    return _tuned_run(
        whole,
        searches,
        heads if only else set(),
        trials=suite.search.trials if trials is None else trials,
        repeats=repeats,
    )


def reopen_tuned(
    name: str, runs_folder: Path, *, size: str = FULL, only: Sequence[str] = ()
) -> TunedRun:
    """The searches of a suite as they were last asked for; nothing is resolved for it.

    Raises:
        UserError: an unknown suite or size, no search, or none of a head in ``only``.
        DamagedFile: what is written of it does not read well.
    """
    suite, own = _own_folder(runs_folder, name, size)
    path = _tuned_folder(own) / SEARCH_FILE
    if not path.exists():
        raise UserError(
            f"suite {suite.name!r} has no search in {str(path.parent)!r}; start one with "
            f"`marginbench tune {name}` or `marginbench submit {name} --tuned`"
        )
    try:
        content = read_json(path)
        searches = [HeadSearch.model_validate(entry) for entry in content["searches"]]
    except (ValidationError, KeyError, TypeError):
        raise DamagedFile(path, "it holds no searches") from None
    there = list(dict.fromkeys(search.head for search in searches))
    for head in only:
        if head not in there:
            raise UserError(
                f"suite {suite.name!r} has no search of the head {quoted(head)}; its heads: "
                + ", ".join(there)
            )
    asked = {"trials": content.get("trials", TRIALS), "repeats": content.get("repeats")}
    return _tuned_run(SuiteRun(suite, own, [], 0), searches, set(only), **asked)


def _own_folder(runs_folder: Path, name: str, size: str) -> tuple[Suite, Path]:
    suite = find_suite(name)
    suite.cells(1, size)
    return suite, runs_folder / (suite.name if size == FULL else f"{suite.name}-{size}")


def _last_asked_for(runs_folder: Path, name: str, size: str) -> dict[str, Any]:
    path = _tuned_folder(_own_folder(runs_folder, name, size)[1]) / SEARCH_FILE
    try:
        return read_json(path) if path.exists() else {}
    except DamagedFile:
        # It is written anew.
        return {}


def _tuned_folder(own: Path) -> Path:
    return own.with_name(f"{own.name}-{TUNED}")


def _tuned_run(
    whole: SuiteRun, searches: list[HeadSearch], heads: set[str], **asked: int | None
) -> TunedRun:
    folder = _tuned_folder(whole.folder)
    suite = whole.suite
    if suite.sections is not None and SECTION not in suite.sections:
        suite = replace(suite, sections=(SECTION, *suite.sections))
    values: dict[str, Any] = {
        "suite": suite,
        "folder": folder,
        "resolver": whole.resolver,
        "searches": tuple(searches),
        "own_folder": whole.folder,
        "heads": tuple(sorted(heads)),
        **asked,
    }
    results = TunedRun(runs=[], of=0, **{**values, "heads": ()}).results
    every: dict[str, RunFolder] = {}
    for result in results:
        for cell in _cells(result):
            run = RunFolder(folder, cell)
            every.setdefault(run.key, run)
    chosen = [run for run in every.values() if not heads or run.cell.head.name in heads]
    left, unread = recorded_cells(folder, every)
    left = [run for run in left if not heads or run.cell.head.name in heads]
    return TunedRun(runs=chosen, of=len(every), left=left, unread=unread, **values)


def _cells(result: SearchResult) -> list[Cell]:
    """Of the trials, and of the choice's final runs where there is one."""
    search = result.search
    cells = [cell for number in range(len(search.trials)) for cell in search.trial_cells(number)]
    chosen = result.chosen
    return cells if chosen is None else [*cells, *search.final_cells(chosen)]


def _check_search_heads(suite: Suite, cells: list[Cell]) -> None:
    """Make sure that the heads whose ranges a suite changes are among its own, of whatever size."""
    there = list(dict.fromkeys([cell.head.name for cell in (*cells, *suite.cells(1))]))
    for head in suite.search.heads:
        if EVERY_OTHER_HEAD in there:
            check_known("head", head)
        elif head not in there:
            raise UserError(
                f"search: heads = {quoted(head)} is not allowed; allowed: one of its heads: "
                + ", ".join(there)
            )
