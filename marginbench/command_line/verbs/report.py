"""The verb ``report``: its options and its help. Heavy imports wait until it runs."""

from __future__ import annotations

import sys
from typing import Any

import click

from marginbench.command_line.plugin_files import load_plugins
from marginbench.command_line.search_options import tuned_option
from marginbench.command_line.suite_options import suite_options
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
def report(**options: Any) -> None:
    """Write the report of SUITE from what is there, finished or not."""
    from marginbench.command_line.report import report_suite

    load_plugins(options.pop("plugins"))
    sys.exit(report_suite(SuiteSelection.taken_from(options), **options))
