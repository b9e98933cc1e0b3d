"""What ``tune`` does: the trials, then the final runs of what they chose, then the report."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from marginbench.command_line.live_display import make_console
from marginbench.command_line.report import show_report
from marginbench.command_line.run import run_cells
from marginbench.command_line.search_messages import (
    print_choices,
    print_finalists,
    print_incomplete,
    print_search,
)
from marginbench.command_line.suite_selection import SuiteSelection
from marginbench.command_line.until_decided import open_whole, run_until_decided
from marginbench.dispatch.torchrun_environment import torchrun_rank
from marginbench.runs.tuned_runs import TunedRun


def tune_suite(
    selection: SuiteSelection,
    *,
    until_decided: bool = False,
    max_seeds: int | None = None,
    no_report: bool,
    dry_run: bool,
    **options: Any,
) -> int:
    """Search, train the choices, report.

    ``options`` are those of :func:`marginbench.command_line.run.run_cells`. With
    ``until_decided`` the choices are trained look by look, see
    :func:`marginbench.command_line.until_decided.run_until_decided`.

    Returns:
        Exit status: 0, 1 if a cell failed or is damaged, 130 if interrupted.

    Raises:
        UserError: see :func:`marginbench.runs.open_tuned.open_tuned` and :func:`run_cells`.
    """
    console = make_console(quiet=torchrun_rank() > 0)
    if until_decided:
        selection = replace(selection, tuned=True)
        search = cast("TunedRun", open_whole(selection, max_seeds))
        search = search.with_runs(search.trial_runs)
    else:
        search = selection.open_search()
    print_search(console, search)
    known: set[str] = set()
    while True:
        status = run_cells(search, no_report=True, dry_run=dry_run, **options)
        if dry_run or status:
            return status
        known |= {run.key for run in search.runs}
        chosen = replace(selection, tuned=True, seeds=None, more_heads=()).open()
        assert isinstance(chosen, TunedRun)
        if not chosen.incomplete:
            break
        finalists = [run for run in chosen.trial_runs if run.key not in known]
        if not finalists:
            print_incomplete(console, chosen)
            return 1
        print_finalists(console, chosen)
        search = replace(chosen, runs=finalists)
    print_choices(console, chosen)
    if until_decided:
        return run_until_decided(
            selection, max_seeds, no_report=no_report, dry_run=dry_run, **options
        )
    final = replace(chosen, runs=[run for run in chosen.runs if run.key not in known])
    if final.runs:
        status = run_cells(final, no_report=True, dry_run=False, **options)
    if status or no_report or torchrun_rank() > 0:
        return status
    # Opened anew: it keeps what it was asked for, and that was before the final runs.
    return show_report(console, replace(chosen), None)
