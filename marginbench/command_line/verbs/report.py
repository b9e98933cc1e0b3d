"""The verb ``report``: its options and its help. Heavy imports wait until it runs."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import click

from marginbench.command_line.plugin_files import load_plugins
from marginbench.command_line.search_options import tuned_option
from marginbench.command_line.suite_options import FiniteNumber, folder_option, suite_options
from marginbench.command_line.suite_selection import SuiteSelection


@click.command(epilog="Example: marginbench report digits --section comparison")
@suite_options
@tuned_option
@click.option(
    "--section",
    "sections",
    multiple=True,
    metavar="NAME",
    help="Only this section. May be repeated.",
)
@click.option(
    "--against",
    metavar="HEAD",
    help="Compare with this head, not with the suite's baseline: 'l-softmax m=2', as the tables "
    "name it.",
)
@folder_option(
    "--compare",
    help="Other runs of SUITE, from before a change: show what has changed since.",
)
@click.option(
    "--every",
    type=FiniteNumber(min=1),
    metavar="S",
    help="Write it again whenever a cell has ended, until all have; the run folders are read every "
    "S seconds, and the page loads itself again as often.",
)
@click.argument("more_suites", nargs=-1, metavar="[SUITE]...")
def report(more_suites: tuple[str, ...], **options: Any) -> None:
    """Write the report of SUITE from what is there, finished or not.

    Of several SUITEs one report: ranks over the data sets, and who beats whom.
    """
    from marginbench.command_line.report import report_suite, report_suites

    load_plugins(options.pop("plugins"))
    selection = SuiteSelection.taken_from(options)
    if more_suites:
        others = [replace(selection, suite=name) for name in more_suites]
        sys.exit(report_suites([selection, *others], **options))
    sys.exit(report_suite(selection, **options))
