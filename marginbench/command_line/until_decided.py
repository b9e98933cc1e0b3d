"""``run`` and ``submit`` with ``--until-decided``: look by look, until every head is decided."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.markup import escape

from marginbench.command_line.live_display import make_console
from marginbench.command_line.run import run_cells
from marginbench.command_line.suite_selection import SuiteSelection
from marginbench.dispatch.torchrun_environment import started_by_torchrun
from marginbench.errors import UserError
from marginbench.experiments.suites import FULL, find_suite
from marginbench.reporting.until_decided import NextLook, describe, next_look
from marginbench.runs.cell_status import FINISHED
from marginbench.runs.seed_plan import begin_plan
from marginbench.runs.suite_runs import SuiteRun, suite_folder
from marginbench.runs.tuned_runs import TunedRun, tuned_folder


def run_until_decided(selection: SuiteSelection, max_seeds: int | None, **options: Any) -> int:
    """Train the cells of look after look, then report.

    Args:
        selection: of the suite.
        max_seeds: at most; None for those that the suite was begun with, or 30.
        options: of :func:`marginbench.command_line.run.run_cells`.

    Returns:
        Exit status: see :func:`marginbench.command_line.run.run_cells`; the first that is not 0.

    Raises:
        UserError: as there; options that do not go together, or another ``max_seeds`` than before.
    """
    if options["force"]:
        raise UserError("--force is not allowed with --until-decided; allowed: --retrain-stale")
    if started_by_torchrun():
        raise UserError(
            "--until-decided is not allowed under torchrun; allowed: submit --until-decided, whose "
            "jobs start several processes a cell"
        )
    console = make_console()
    whole = open_whole(selection, max_seeds)
    while True:
        look = next_look(whole)
        todo = _to_do(look)
        _print_look(console, look, todo)
        # With nothing to train, or nothing to be trained, only the last call reports.
        last = not todo or options["dry_run"]
        report = {"no_report": options["no_report"] or not last}
        status = run_cells(look.run, **{**options, **report})
        # A cell that failed has a status of its own; else its look is whole, and the next is due.
        if last or status:
            return status


def submit_until_decided(selection: SuiteSelection, max_seeds: int | None, **options: Any) -> int:
    """Submit the cells of the next look, or what the last one still lacks.

    Args:
        selection: of the suite.
        max_seeds: see :func:`run_until_decided`.
        options: of :func:`marginbench.command_line.submit.submit_suite`.

    Returns:
        Exit status: see :func:`marginbench.command_line.submit.submit_suite`.

    Raises:
        UserError: as there, and as :func:`run_until_decided`.
    """
    from marginbench.command_line.submit import submit_suite

    console = make_console()
    whole = open_whole(selection, max_seeds)
    if isinstance(whole, TunedRun) and whole.incomplete:
        return submit_suite(selection, suite_run=whole.with_runs(whole.trial_runs), **options)
    look = next_look(whole)
    todo = _to_do(look)
    _print_look(console, look, todo)
    status = submit_suite(selection, suite_run=look.run, **options)
    name = escape(f"{selection.suite} --tuned" if selection.tuned else selection.suite)
    if todo and not options["dry_run"]:
        console.print(
            f"when these have ended (marginbench status {name}), type the same again: "
            f"marginbench submit {name} --until-decided",
            soft_wrap=True,
        )
    elif not todo:
        console.print(f"the report: marginbench report {name}", soft_wrap=True)
    return status


def open_whole(selection: SuiteSelection, max_seeds: int | None) -> SuiteRun:
    """The suite, or with ``tuned`` its search, with the most seeds that its plan may need.

    Raises:
        UserError: see :func:`run_until_decided`.
    """
    for value, option in ((selection.seeds, "--seeds"), (selection.only, "--only")):
        if value:
            raise UserError(
                f"{option} is not allowed with --until-decided, which chooses the seeds of all "
                "heads; allowed: --max-seeds"
            )
    suite = find_suite(selection.suite)
    folder = suite_folder(suite, selection.runs, selection.size)
    own_seeds = {**suite.sizes, FULL: suite.seeds}.get(selection.size, suite.seeds)
    if selection.tuned:
        return selection.open_search(begin_plan(tuned_folder(folder), max_seeds, own_seeds))
    plan = begin_plan(folder, max_seeds, own_seeds)
    return replace(replace(selection, seeds=plan.max_seeds).open(), plan=plan)


def _to_do(look: NextLook) -> list[str]:
    """The folders of the cells that have not come to an end."""
    return [run.path.name for run in look.run.runs if run.status().state not in FINISHED]


def _print_look(console: Console, look: NextLook, todo: list[str]) -> None:
    for line in describe(look.found):
        console.print(escape(line), highlight=False, soft_wrap=True)
    if not todo:
        text = "nothing left to decide by more seeds"
    else:
        plan = look.run.plan
        assert plan is not None
        looks = ", ".join(map(str, plan.looks))
        text = f"next look: {look.seeds or plan.looks[0]} seeds (of {looks})"
    console.print(text, highlight=False)
