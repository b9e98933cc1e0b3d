"""The verb ``submit``: its options and its help. Heavy imports wait until it runs."""

from __future__ import annotations

import sys
from typing import Any

import click

from marginbench.command_line.cluster_options import SubmitCommand
from marginbench.command_line.plugin_files import know_plugins
from marginbench.command_line.search_options import search_options, tuned_option
from marginbench.command_line.suite_options import retrain_stale_option, suite_options
from marginbench.command_line.suite_selection import SuiteSelection
from marginbench.command_line.until_decided_options import (
    refuse_max_seeds,
    until_decided_options,
)


@click.command(
    cls=SubmitCommand,
    epilog="Example: marginbench submit digits --partition gpu --hours 4 --max-parallel 16",
)
@suite_options
@tuned_option
@search_options
@click.option("--profile", metavar="NAME", help="The cluster's settings: see above.")
@click.option("--retry-failed", is_flag=True, help="Submit the failed cells again too.")
@retrain_stale_option
@click.option("--dry-run", is_flag=True, help="Show the cells and the sbatch script; submit none.")
@until_decided_options
def submit(until_decided: bool, max_seeds: int | None, **options: Any) -> None:
    """Submit the cells of SUITE that are neither done nor in the queue to a SLURM cluster.

    Returns at once; `marginbench status` shows their states. Settings that are not given come
    from the profile, or else from the suite's last submission. A profile is a table in
    ./marginbench.toml or ~/.config/marginbench/marginbench.toml:

    \b
        [profiles.gpu]
        partition = "gpu"
        gpus = 1
        cpus = 8
        mem = 32
        hours = 4
        setup = ["module load python"]
    """
    from marginbench.command_line.submit import submit_suite

    know_plugins(options.pop("plugins"))
    selection = SuiteSelection.taken_from(options)
    names = ("profile", "retry_failed", "retrain_stale", "dry_run")
    rest = {name: options.pop(name) for name in names}
    if until_decided:
        from marginbench.command_line.until_decided import submit_until_decided

        sys.exit(submit_until_decided(selection, max_seeds, given=options, **rest))
    refuse_max_seeds(max_seeds)
    sys.exit(submit_suite(selection, given=options, **rest))
