"""The verb ``status``: its options and its help. Heavy imports wait until it runs."""

from __future__ import annotations

import sys
from typing import Any

import click

from marginbench.command_line.plugin_files import know_plugins
from marginbench.command_line.search_options import tuned_option
from marginbench.command_line.suite_options import FiniteNumber, suite_options
from marginbench.command_line.suite_selection import SuiteSelection


@click.command(epilog="Example: marginbench status digits --only l-softmax --watch")
@suite_options
@tuned_option
@click.option("--watch", is_flag=True, help="Print anew until nothing runs or waits.")
@click.option(
    "--every",
    default=15.0,
    show_default=True,
    type=FiniteNumber(min=1),
    metavar="S",
    help="Seconds between two tables of --watch; each asks SLURM once.",
)
@click.option("--all", "every_cell", is_flag=True, help="List every cell, even of thousands.")
def status(watch: bool, every: float, **options: Any) -> None:
    """Show the cells of SUITE: done, running with progress, waiting (why), failed, lost."""
    from marginbench.command_line.status import show_status

    know_plugins(options.pop("plugins"))
    selection = SuiteSelection.taken_from(options)
    sys.exit(show_status(selection, watch=every if watch else None, **options))
