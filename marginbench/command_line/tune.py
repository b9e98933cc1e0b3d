"""What ``tune`` does: the trials, then the final runs of what they chose, then the report."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.markup import escape

from marginbench.command_line.live_display import make_console
from marginbench.command_line.report import show_report
from marginbench.command_line.run import run_cells
from marginbench.command_line.suite_selection import SuiteSelection
from marginbench.dispatch.torchrun_environment import torchrun_rank
from marginbench.runs.tuned_runs import TunedRun
from marginbench.text import count


def tune_suite(selection: SuiteSelection, *, no_report: bool, dry_run: bool, **options: Any) -> int:
    """Search, train the choices, report.

    ``options`` are those of :func:`marginbench.command_line.run.run_cells`.

    Returns:
        Exit status: 0, 1 if a cell failed or is damaged, 130 if interrupted.

    Raises:
        UserError: see :func:`marginbench.runs.tuned_runs.open_tuned` and :func:`run_cells`.
    """
    console = make_console(quiet=torchrun_rank() > 0)
    search = selection.open_search()
    print_search(console, search)
    status = run_cells(search, no_report=True, dry_run=dry_run, **options)
    if dry_run or status:
        return status
    known = {run.key for run in search.runs}
    chosen = replace(selection, tuned=True).open()
    assert isinstance(chosen, TunedRun)
    if chosen.incomplete:
        console.print(_incomplete(chosen))
        return 1
    print_choices(console, chosen)
    final = replace(chosen, runs=[run for run in chosen.runs if run.key not in known])
    if final.runs:
        status = run_cells(final, no_report=True, dry_run=False, **options)
    if status or no_report or torchrun_rank() > 0:
        return status
    return show_report(console, chosen, None)


def print_search(console: Console, search: TunedRun) -> None:
    """Say how much is searched, and which heads have no search space of their own."""
    searches = [result.search for result in search.results]
    heads = list(dict.fromkeys(own.head for own in searches))
    settings = list(dict.fromkeys(own.setting for own in searches))
    trials = max(len(own.trials) for own in searches)
    repeats = max(own.repeat for own in searches) + 1
    console.print(
        f"search: {count(len(heads), 'head')} in {count(len(settings), 'setting')}, "
        f"{count(trials, 'trial')} each" + (f", {repeats} times" if repeats > 1 else "")
    )
    bare = list(dict.fromkeys(own.head for own in searches if not own.declares))
    if bare:
        console.print(
            f"[yellow]note[/]: {escape(', '.join(bare))}: no search space of its own is declared; "
            "searched are the learning rates and the weight decay (docs/tuning.md)"
        )


def print_choices(console: Console, search: TunedRun) -> None:
    """Say what each search has chosen."""
    for result in search.results:
        own, chosen = result.search, result.chosen
        if chosen is None:
            continue
        values = " ".join(
            f"{name.partition('.')[2]}={value:g}"
            if isinstance(value, float)
            else f"{name.partition('.')[2]}={value}"
            for name, value in own.trials[chosen].values.items()
        )
        which = "the suite's own values" if chosen == 0 else f"trial {chosen}"
        console.print(
            f"  {escape(own.setting)}, {escape(own.head)}: {which}: {escape(values)}",
            highlight=False,
            soft_wrap=True,
        )


def _incomplete(search: TunedRun) -> str:
    lacking = [
        f"{result.search.head} ({result.finished} of {len(result.errors)})"
        for result in search.incomplete
    ]
    return (
        f"[yellow]the search is not complete[/]: {escape(', '.join(lacking))} trials have a "
        "result; the same command goes on"
    )
