"""The verb ``cancel``: its options and its help. Heavy imports wait until it runs."""

from __future__ import annotations

import sys
from typing import Any

import click

from marginbench.command_line.plugin_files import know_plugins
from marginbench.command_line.search_options import tuned_option
from marginbench.command_line.suite_options import suite_options
from marginbench.command_line.suite_selection import SuiteSelection


@click.command(epilog="Example: marginbench cancel digits --only hinge")
@suite_options
@tuned_option
@click.argument("cells", nargs=-1, metavar="[CELL]...")
def cancel(cells: tuple[str, ...], **options: Any) -> None:
    """Take the cells of SUITE, or only CELLs, out of the queue.

    A running one writes its checkpoint; `marginbench submit` goes on from there.
    """
    from marginbench.command_line.queue import cancel as cancel_cells

    know_plugins(options.pop("plugins"))
    sys.exit(cancel_cells(SuiteSelection.taken_from(options), cells))
