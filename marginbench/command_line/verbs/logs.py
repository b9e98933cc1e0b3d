"""The verb ``logs``: its options and its help. Heavy imports wait until it runs."""

from __future__ import annotations

import sys
from typing import Any

import click

from marginbench.command_line.plugin_files import know_plugins
from marginbench.command_line.search_options import tuned_option
from marginbench.command_line.suite_options import suite_options
from marginbench.command_line.suite_selection import SuiteSelection


@click.command(epilog="Example: marginbench logs digits 3fa9c1")
@suite_options
@tuned_option
@click.argument("cell")
def logs(cell: str, **options: Any) -> None:
    """Print the output of CELL of SUITE: its training's and its job's.

    CELL is the name of its folder, its key (the folder's last part) or the key's beginning.
    """
    from marginbench.command_line.queue import show_logs

    know_plugins(options.pop("plugins"))
    sys.exit(show_logs(SuiteSelection.taken_from(options), cell))
