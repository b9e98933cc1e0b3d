"""The verb ``run``: its options and its help. Heavy imports wait until it runs."""

from __future__ import annotations

import sys
from typing import Any

import click

from marginbench.command_line.plugin_files import load_plugins
from marginbench.command_line.suite_options import FiniteNumber, retrain_stale_option, suite_options
from marginbench.command_line.suite_selection import SuiteSelection


@click.command(epilog="Example: marginbench run digits --only softmax,arcface --workers 2")
@suite_options
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Cells trained at a time. Default: one per GPU, or one per CPU core.",
)
@click.option(
    "--device",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "cpu", "cuda"]),
    help="Where to train; auto is CUDA where there is one.",
)
@click.option(
    "--threads",
    default=1,
    show_default=True,
    type=click.IntRange(min=1),
    metavar="N",
    help="CPU threads a cell. Runs repeat to the bit only with the same number.",
)
@click.option(
    "--checkpoint-seconds",
    default=60.0,
    show_default=True,
    type=FiniteNumber(min=0),
    metavar="S",
    help="How often a running cell writes its checkpoint.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be run, and run nothing.")
@click.option("--no-report", is_flag=True, help="Train only; write no report.")
@click.option("--force", is_flag=True, help="Run finished and damaged cells again, from the start.")
@retrain_stale_option
def run(**options: Any) -> None:
    """Run the cells of SUITE that are not done, here, then write the report.

    SUITE is a name (see `marginbench suites`) or the path of your own suite file. What is done is
    never run again; what was interrupted goes on from its checkpoint.
    """
    from marginbench.command_line.run import run_suite

    load_plugins(options.pop("plugins"))
    sys.exit(run_suite(SuiteSelection.taken_from(options), **options))
