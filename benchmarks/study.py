"""The study of reports/published/study: every head tuned alike, on closed and open sets.

    make study

runs it, goes on where it was stopped, and after each data set writes the page of those that are
whole. For each of them: the search and its final runs; the heads with their own values, to show
what tuning gave; and softmax chosen from few trials, as unequal budgets would have it. Data sets
may be run on several machines or days: what the page needs of each is kept beside it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from marginbench.errors import UserError

from .commands import run_module
from .publish import PUBLISHED
from .study_details import write_search
from .study_page import write_page
from .study_results import Measured, keep, kept, measured

SUITES = (
    "study-digits",
    "study-mnist",
    "study-fashion",
    "study-cifar",
    "study-omniglot",
    "study-lfw",
)
FEWER_TRIALS = 3
"""A fifth of the sixteen."""
FEWER = "fewer-trials"


def commands(suite: str, runs: Path) -> list[list[str]]:
    """What is run for a data set, in order; each goes on where it was.

    Args:
        suite: one of :data:`SUITES`.
        runs: RUNS.
    """
    fewer = ["--trials", str(FEWER_TRIALS), "--only", "softmax", "--runs", str(runs / FEWER)]
    return [
        # First: a search does not run again what it finds here.
        ["run", suite, "--no-report", "--runs", str(runs)],
        ["tune", suite, "--until-decided", "--runs", str(runs)],
        ["tune", suite, "--no-report", *fewer],
    ]


def whole(suites: Sequence[str], runs: Path, published: Path) -> tuple[list[Measured], list[str]]:
    """The data sets whose runs have all ended, here or before, and the names of the others.

    Args:
        suites: their names.
        runs: RUNS.
        published: the page's folder; what is whole in RUNS is kept there, with its search.
    """
    found, missing = [], []
    for suite in suites:
        file = published / "runs" / f"{Path(suite).stem}.csv"
        try:
            one = measured(suite, runs, runs / FEWER)
        except UserError:
            # It has no search here.
            one = None
        if one is not None and one.is_whole:
            write_search(one, published)
            keep(one, file)
        if file.exists():
            found.append(kept(file))
        else:
            missing.append(suite)
    return found, missing


def publish(suites: Sequence[str], runs: Path, target: Path) -> bool:
    """Write the page of all data sets that are whole; whether there is one."""
    found, missing = whole(suites, runs, target)
    if not found:
        print("no data set is whole yet")
        return False
    print(write_page(found, missing, target), flush=True)
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, run, write the page.

    Returns:
        Exit status: of the first command that failed, or 0.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "suites", nargs="*", default=list(SUITES), metavar="SUITE", help="default: all"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/study"), help="RUNS")
    parser.add_argument(
        "--target", type=Path, default=PUBLISHED / "study", help="the page's folder"
    )
    parser.add_argument("--page-only", action="store_true", help="run nothing")
    given = parser.parse_args(arguments)
    for suite in given.suites:
        if suite not in SUITES:
            parser.error(f"{suite!r} is not of the study; allowed: {', '.join(SUITES)}")
    for suite in [] if given.page_only else given.suites:
        for command in commands(suite, given.runs):
            status = run_module(["marginbench", *command])
            if status:
                return status
        publish(SUITES, given.runs, given.target)
    if given.page_only:
        return 0 if publish(SUITES, given.runs, given.target) else 1
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on")
    except UserError as error:
        sys.exit(f"error: {error}")
