"""The verb ``watch``: its options and its help. Heavy imports wait until it runs."""

from __future__ import annotations

import sys
from typing import Any

import click

from marginbench.command_line.plugin_files import load_plugins
from marginbench.command_line.suite_options import FiniteNumber, suite_options
from marginbench.command_line.suite_selection import SuiteSelection


@click.command(epilog="Example: marginbench watch digits --port 8001")
@suite_options
@click.option(
    "--port",
    default=8000,
    show_default=True,
    type=click.IntRange(0, 65535),
    metavar="N",
    help="Of 127.0.0.1, which only this machine reaches; 0 for any that is free.",
)
@click.option(
    "--every",
    default=5.0,
    show_default=True,
    type=FiniteNumber(min=0.1),
    metavar="S",
    help="Seconds between two readings of the run folders.",
)
def watch(port: int, every: float, **options: Any) -> None:
    """Show the report of SUITE in a browser, made anew when a cell has ended, until Ctrl-C."""
    from marginbench.command_line.watch import watch_suite

    load_plugins(options.pop("plugins"))
    sys.exit(watch_suite(SuiteSelection.taken_from(options), port=port, every=every))
