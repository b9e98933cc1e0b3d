"""The command ``marginbench``. Heavy imports wait until a command needs them."""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Callable
from typing import Any

import click

from marginbench import __version__
from marginbench.command_line.cluster_options import SubmitCommand
from marginbench.command_line.command_group import Group, show_error, show_warning
from marginbench.command_line.suite_options import (
    FiniteNumber,
    folder_option,
    plugin_option,
    suite_options,
)
from marginbench.command_line.suite_selection import SuiteSelection
from marginbench.errors import UserError


@click.group(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: marginbench run digits --seeds 5 --workers 2",
)
@click.version_option(__version__, prog_name="marginbench")
def main() -> None:
    """Compare margin losses: run a grid of training runs, read one report."""
    warnings.showwarning = show_warning


retrain_stale = click.option(
    "--retrain-stale",
    is_flag=True,
    help="Train finished cells anew whose results are of other code or other images.",
)


def until_decided_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: ``--until-decided`` and ``--max-seeds``."""
    for decorate in (
        click.option(
            "--max-seeds",
            type=click.IntRange(min=5),
            metavar="N",
            help="With --until-decided: at most so many seeds. Default: 30.",
        ),
        click.option(
            "--until-decided",
            is_flag=True,
            help="Add seeds in planned looks (5, 8, 12, ...) until each head is better, worse or "
            "equal; the looks share the 5 % of false claims. Decided heads stop.",
        ),
    ):
        command = decorate(command)
    return command


@main.command(epilog="Example: marginbench suites --plugin my_suite.py")
@plugin_option
def suites(plugins: tuple[str, ...]) -> None:
    """List the suites: how many cells each has, and what it needs.

    Of a plug-in file or a suite that is wrong the error is printed, and the exit status is 1.
    """
    from marginbench.command_line.listings import print_suites
    from marginbench.plugins.loading import load_plugin_file

    wrong = False
    for file in plugins:
        try:
            load_plugin_file(file)
        except UserError as error:
            show_error(error)
            wrong = True
    sys.exit(0 if print_suites() and not wrong else 1)


@main.command(epilog="Example: marginbench heads --plugin my_head.py")
@click.argument("names", nargs=-1, metavar="[HEAD]...")
@plugin_option
def heads(names: tuple[str, ...], plugins: tuple[str, ...]) -> None:
    """List the heads: formula, parameters with defaults and allowed values, source paper."""
    from marginbench.command_line.listings import print_heads

    _load(plugins)
    print_heads(list(names))


@main.command(epilog="Example: marginbench table1 cifar10")
@click.argument("names", nargs=-1, metavar="[NETWORK]...")
def table1(names: tuple[str, ...]) -> None:
    """Print the networks of the paper's Table 1: layers, parameters, multiply-accumulates."""
    from marginbench.command_line.listings import print_networks

    print_networks(list(names))


@main.command(
    "check-head",
    epilog="Example: marginbench check-head my_head.py",
)
@click.argument("target", metavar="NAME[:m=0.3,...]|FILE.py")
@plugin_option
@click.option("--device", default="cpu", show_default=True, type=click.Choice(["cpu", "cuda"]))
def check_head(target: str, plugins: tuple[str, ...], device: str) -> None:
    """Prove that a head keeps its contract: gradients, edges, precision, state, and more.

    Of a file, every head that it registers is checked. The exit status is 1 if a check fails.
    """
    from marginbench.command_line.live_display import make_console
    from marginbench.experiments.grids import parse_component
    from marginbench.testing import print_checks, report_head

    _load(plugins)
    if target.endswith(".py"):
        reports = report_head(target, device=device)
    else:
        head = parse_component(target)
        reports = report_head(head.name, head.parameters, device=device)
    print_checks(reports, make_console())
    sys.exit(0 if all(report.passed for report in reports) else 1)


@main.command(epilog="Example: marginbench run digits --only softmax,arcface --workers 2")
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
@retrain_stale
@until_decided_options
def run(until_decided: bool, max_seeds: int | None, **options: Any) -> None:
    """Run the cells of SUITE that are not done, here, then write the report.

    SUITE is a name (see `marginbench suites`) or the path of your own suite file. What is done is
    never run again; what was interrupted goes on from its checkpoint.
    """
    from marginbench.command_line.run import run_suite

    _load(options.pop("plugins"))
    selection = SuiteSelection.taken_from(options)
    if until_decided:
        from marginbench.command_line.until_decided import run_until_decided

        sys.exit(run_until_decided(selection, max_seeds, **options))
    _refuse_max_seeds(max_seeds)
    sys.exit(run_suite(selection, **options))


@main.command(epilog="Example: marginbench report digits --section comparison")
@suite_options
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
def report(**options: Any) -> None:
    """Write the report of SUITE from what is there, finished or not."""
    from marginbench.command_line.report import report_suite

    _load(options.pop("plugins"))
    sys.exit(report_suite(SuiteSelection.taken_from(options), **options))


@main.command(epilog="Example: marginbench watch digits --port 8001")
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
    help="Seconds between two looks at the run folders.",
)
def watch(port: int, every: float, **options: Any) -> None:
    """Show the report of SUITE in a browser, made anew when a cell has ended, until Ctrl-C."""
    from marginbench.command_line.watch import watch_suite

    _load(options.pop("plugins"))
    sys.exit(watch_suite(SuiteSelection.taken_from(options), port=port, every=every))


@main.command(epilog="Example: marginbench export digits --csv tables --figures figures")
@suite_options
@folder_option("--csv", help="results.csv, a row a cell, and history.csv, a row an evaluation.")
@folder_option("--parquet", help="The same as Parquet; needs marginbench[parquet].")
@folder_option("--tensorboard", help="Event files, a run a cell; needs marginbench[tensorboard].")
@folder_option("--figures", help="PDF, SVG and PNG of every figure, for one and two columns.")
def export(**options: Any) -> None:
    """Write the results, histories and figures of SUITE for other programs and for papers."""
    from marginbench.command_line.export import export_suite

    _load(options.pop("plugins"))
    sys.exit(export_suite(SuiteSelection.taken_from(options), **options))


@main.command(
    cls=SubmitCommand,
    epilog="Example: marginbench submit digits --partition gpu --hours 4 --max-parallel 16",
)
@suite_options
@click.option("--profile", metavar="NAME", help="The cluster's settings: see above.")
@click.option("--retry-failed", is_flag=True, help="Submit the failed cells again too.")
@retrain_stale
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

    _load_lightly(options.pop("plugins"))
    selection = SuiteSelection.taken_from(options)
    names = ("profile", "retry_failed", "retrain_stale", "dry_run")
    rest = {name: options.pop(name) for name in names}
    if until_decided:
        from marginbench.command_line.until_decided import submit_until_decided

        sys.exit(submit_until_decided(selection, max_seeds, given=options, **rest))
    _refuse_max_seeds(max_seeds)
    sys.exit(submit_suite(selection, given=options, **rest))


@main.command(epilog="Example: marginbench status digits --only l-softmax --watch")
@suite_options
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
    """Show the cells of SUITE: done, running with progress, waiting (why), failed, lost, ..."""
    from marginbench.command_line.status import show_status

    _load_lightly(options.pop("plugins"))
    selection = SuiteSelection.taken_from(options)
    sys.exit(show_status(selection, watch=every if watch else None, **options))


@main.command(epilog="Example: marginbench logs digits 3fa9c1")
@suite_options
@click.argument("cell")
def logs(cell: str, **options: Any) -> None:
    """Print the output of CELL of SUITE: its training's and its job's.

    CELL is the name of its folder, its key (the folder's last part) or the key's beginning.
    """
    from marginbench.command_line.queue import show_logs

    _load_lightly(options.pop("plugins"))
    sys.exit(show_logs(SuiteSelection.taken_from(options), cell))


@main.command(epilog="Example: marginbench cancel digits --only hinge")
@suite_options
@click.argument("cells", nargs=-1, metavar="[CELL]...")
def cancel(cells: tuple[str, ...], **options: Any) -> None:
    """Take the cells of SUITE, or only CELLs, out of the queue.

    A running one writes its checkpoint; `marginbench submit` goes on from there.
    """
    from marginbench.command_line.queue import cancel as cancel_cells

    _load_lightly(options.pop("plugins"))
    sys.exit(cancel_cells(SuiteSelection.taken_from(options), cells))


def _load(plugins: tuple[str, ...]) -> None:
    from marginbench.plugins.loading import load_plugin_file

    for file in plugins:
        load_plugin_file(file)


def _refuse_max_seeds(max_seeds: int | None) -> None:
    if max_seeds is not None:
        raise UserError("--max-seeds is allowed with --until-decided only; allowed: --seeds")


def _load_lightly(plugins: tuple[str, ...]) -> None:
    """For commands that do without torch: a file with heads alone is read, not run."""
    from marginbench.plugins.registrations import know_plugin_file

    # Thousands of cells are made and kept: looking through them for garbage is a fifth of the time.
    gc.set_threshold(200_000, 50, 50)
    for file in plugins:
        know_plugin_file(file)


if __name__ == "__main__":
    main()
