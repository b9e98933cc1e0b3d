"""The verb ``tune``: its options and its help. Heavy imports wait until it runs."""

from __future__ import annotations

import sys
from typing import Any

import click

from marginbench.command_line.plugin_files import load_plugins
from marginbench.command_line.search_options import search_options
from marginbench.command_line.suite_options import suite_options
from marginbench.command_line.suite_selection import SuiteSelection
from marginbench.command_line.training_options import training_options
from marginbench.command_line.until_decided_options import (
    refuse_max_seeds,
    until_decided_options,
)


@click.command(epilog="Example: marginbench tune digits --trials 16 --only softmax,arcface")
@suite_options
@search_options
@training_options
@until_decided_options
def tune(until_decided: bool, max_seeds: int | None, **options: Any) -> None:
    """Give every head of SUITE the same number of trials, train what it chose, report.

    A trial is a run with other learning rates, weight decay and parameters of the head, trained
    and tested on images, classes or people that the test does not have. The first trial is the
    suite's own values, the others are drawn ahead; what is done is never run again, and more
    --trials go on from fewer. The runs are in RUNS/SUITE-tuned; report, status, logs, cancel and
    submit show them with --tuned.
    """
    from marginbench.command_line.tune import tune_suite

    load_plugins(options.pop("plugins"))
    selection = SuiteSelection.taken_from(options)
    if not until_decided:
        refuse_max_seeds(max_seeds)
    sys.exit(tune_suite(selection, until_decided=until_decided, max_seeds=max_seeds, **options))
