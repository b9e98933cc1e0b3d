"""The verb ``run``: its options and its help. Heavy imports wait until it runs."""

from __future__ import annotations

import sys
from typing import Any

import click

from marginbench.command_line.plugin_files import load_plugins
from marginbench.command_line.suite_options import suite_options
from marginbench.command_line.suite_selection import SuiteSelection
from marginbench.command_line.training_options import training_options
from marginbench.command_line.until_decided_options import (
    refuse_max_seeds,
    until_decided_options,
)


@click.command(epilog="Example: marginbench run digits --only softmax,arcface --workers 2")
@suite_options
@training_options
@until_decided_options
def run(until_decided: bool, max_seeds: int | None, **options: Any) -> None:
    """Run the cells of SUITE that are not done, here, then write the report.

    SUITE is a name (see `marginbench suites`) or the path of your own suite file. What is done is
    never run again; what was interrupted goes on from its checkpoint.
    """
    from marginbench.command_line.run import run_suite

    load_plugins(options.pop("plugins"))
    selection = SuiteSelection.taken_from(options)
    if until_decided:
        from marginbench.command_line.until_decided import run_until_decided

        sys.exit(run_until_decided(selection, max_seeds, **options))
    refuse_max_seeds(max_seeds)
    sys.exit(run_suite(selection, **options))
