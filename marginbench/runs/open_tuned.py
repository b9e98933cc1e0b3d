"""From a suite's name to its search in a runs folder, planned anew or as it was last asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from marginbench.errors import UserError
from marginbench.experiments.cells import Cell
from marginbench.experiments.head_search import HeadSearch
from marginbench.experiments.search_plan import check_search_heads, plan_searches
from marginbench.experiments.suites import FULL, Suite, find_suite
from marginbench.runs.manifest import recorded_cells
from marginbench.runs.run_folder import RunFolder
from marginbench.runs.search_files import last_asked_for, read_searches
from marginbench.runs.search_results import SearchResult
from marginbench.runs.seed_plan import SeedPlan, read_plan
from marginbench.runs.suite_runs import SuiteRun, open_suite
from marginbench.runs.tuned_runs import TunedRun, tuned_folder
from marginbench.text import quoted

SECTION = "tuning"
"""The section of the report that every tuned suite has."""


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
    plan: SeedPlan | None = None,
) -> TunedRun:
    """The searches of a suite; nothing is written.

    Args:
        name: of the suite, or the path of its file.
        runs_folder: RUNS.
        trials: for every head; None for as many as were last asked for here, or the suite's number.
        repeats: see :func:`marginbench.experiments.search_plan.plan_searches`; None likewise.
        seeds: of the final runs; None for as many as repeats, or for the size's own number.
        size, only, more_heads: see :func:`marginbench.runs.suite_runs.open_suite`.
        plan: to run until it is decided: every seed that it may need; None for the plan that the
            suite was begun with, if any, and the seeds that it has asked for.

    Raises:
        UserError: see there, and :func:`plan_searches`; repeated searches with a plan.
    """
    every_seed = plan is not None
    folder = tuned_folder(_own_folder(runs_folder, name, size)[1])
    plan = plan or read_plan(folder)
    if plan is not None and seeds is None:
        seeds = plan.max_seeds
    last = last_asked_for(folder)
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
        check_search_heads(suite, [run.cell for run in whole.runs])
        searches = plan_searches(
            [run.cell for run in whole.runs],
            suite.search,
            whole.resolver,
            trials=suite.search.trials if trials is None else trials,
            repeats=repeats,
        )
        if plan is not None and any(search.repeat for search in searches):
            raise UserError(
                "a search that is repeated, or done once a seed, is not allowed with "
                "--until-decided; allowed: one search, as with search_share"
            )
    except UserError as error:
        raise UserError(f"suite {suite.name!r}: {error}") from error
    return _tuned_run(
        whole,
        searches,
        heads if only else set(),
        trials=suite.search.trials if trials is None else trials,
        repeats=repeats,
        plan=plan,
        every_seed=every_seed,
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
    folder = tuned_folder(own)
    found = read_searches(folder)
    if found is None:
        raise UserError(
            f"suite {suite.name!r} has no search in {str(folder)!r}; start one with "
            f"`marginbench tune {name}` or `marginbench submit {name} --tuned`"
        )
    searches, asked = found
    there = list(dict.fromkeys(search.head for search in searches))
    for head in only:
        if head not in there:
            raise UserError(
                f"suite {suite.name!r} has no search of the head {quoted(head)}; its heads: "
                + ", ".join(there)
            )
    plan = read_plan(folder)
    return _tuned_run(SuiteRun(suite, own, [], 0), searches, set(only), plan=plan, **asked)


def _own_folder(runs_folder: Path, name: str, size: str) -> tuple[Suite, Path]:
    suite = find_suite(name)
    suite.cells(1, size)
    return suite, runs_folder / (suite.name if size == FULL else f"{suite.name}-{size}")


def _tuned_run(
    whole: SuiteRun, searches: list[HeadSearch], heads: set[str], **asked: Any
) -> TunedRun:
    folder = tuned_folder(whole.folder)
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
    unchosen = TunedRun(runs=[], of=0, **{**values, "heads": ()})
    every: dict[str, RunFolder] = {}
    for result in unchosen.results:
        for cell in _cells(unchosen, result):
            run = RunFolder(folder, cell)
            every.setdefault(run.key, run)
    chosen = [run for run in every.values() if not heads or run.cell.head.name in heads]
    left, unread = recorded_cells(folder, every)
    left = [run for run in left if not heads or run.cell.head.name in heads]
    return TunedRun(runs=chosen, of=len(every), left=left, unread=unread, **values)


def _cells(run: TunedRun, result: SearchResult) -> list[Cell]:
    """Of the trials, and once there is a choice of its final runs and of the own values' runs."""
    cells = result.trial_cells()
    if result.chosen is None:
        return cells
    return [*cells, *run.final_cells(result), *run.own_cells(result)]
