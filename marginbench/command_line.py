"""The command ``marginbench``. Heavy imports wait until a command needs them."""

from __future__ import annotations

import gc
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from marginbench import __version__
from marginbench.cluster_options import cluster_options
from marginbench.errors import UserError

DEFAULT_RUNS = "runs"


class ManyHeads(click.Command):
    """Lets ``--only`` take several heads: ``--only softmax arcface``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        spread: list[str] = []
        for argument in args:
            previous = spread[-2] if len(spread) > 1 else None
            if previous == "--only" and not argument.startswith("-") and ctx_has_suite(spread):
                spread += ["--only", argument]
            else:
                spread.append(argument)
        return super().parse_args(ctx, spread)


def ctx_has_suite(arguments: list[str]) -> bool:
    """Whether SUITE stands among the arguments already, so that what follows is a head."""
    return bool(arguments) and not arguments[0].startswith("-")


class Group(click.Group):
    """Prints a user's error in one line, without a traceback, and exits with status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            click.echo(f"marginbench: {error}", err=True)
            sys.exit(1)


@click.group(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: marginbench run digits --seeds 5 --workers 2",
)
@click.version_option(__version__, prog_name="marginbench")
def main() -> None:
    """Compare margin losses: run a grid of training runs, read one report."""
    warnings.showwarning = _show_warning


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    click.echo(f"marginbench: warning: {message}", err=True)


def _plugin_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--plugin",
        "plugins",
        multiple=True,
        metavar="FILE.py",
        help="A file with your own heads, suites or sections. May be repeated.",
    )(command)


def _set_data_root(ctx: click.Context, option: click.Parameter, value: str | None) -> None:
    """By the environment, which worker processes inherit; the path is no part of any cell."""
    if value is not None:
        os.environ["MARGINBENCH_DATA"] = str(Path(value).expanduser().absolute())


def _suite_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """SUITE and the options that say which of its cells, and where."""
    return _which_cells(command, "--profile", "--size")


def _suite_options_of_submit(command: Callable[..., Any]) -> Callable[..., Any]:
    """The same; there, --profile names the cluster's settings."""
    return _which_cells(command, "--size")


def _which_cells(command: Callable[..., Any], *size_names: str) -> Callable[..., Any]:
    for decorate in reversed(
        [
            click.argument("suite"),
            _plugin_option,
            click.option(
                "--runs",
                default=DEFAULT_RUNS,
                show_default=True,
                metavar="DIR",
                envvar="MARGINBENCH_RUNS",
                help="Where the run folders are; MARGINBENCH_RUNS sets it too.",
            ),
            click.option(
                "--seeds", type=click.IntRange(min=1), metavar="N", help="Seeds 0 to N−1."
            ),
            click.option(
                *size_names,
                "size",
                default="full",
                show_default=True,
                metavar="NAME",
                help="small: the suite's experiment at a size for two CPU cores, where it has one.",
            ),
            click.option(
                "--data",
                metavar="DIR",
                expose_value=False,
                callback=_set_data_root,
                help="Where data sets are; MARGINBENCH_DATA sets it too. Default: "
                "~/.cache/marginbench/data.",
            ),
            click.option(
                "--only",
                multiple=True,
                metavar="HEAD...",
                help="Only the cells with these heads (after SUITE).",
            ),
            click.option(
                "--head",
                "more_heads",
                multiple=True,
                metavar="NAME[:m=0.3,...]",
                help="A further head in every comparison of the suite. May be repeated.",
            ),
        ]
    ):
        command = decorate(command)
    return command


retrain_stale = click.option(
    "--retrain-stale",
    is_flag=True,
    help="Train finished cells anew whose results are of other code or other images.",
)


@main.command(epilog="Example: marginbench suites --plugin my_suite.py")
@_plugin_option
def suites(plugins: tuple[str, ...]) -> None:
    """List the suites: how many cells each has, and what it needs."""
    from marginbench.listings import print_suites

    _load(plugins)
    print_suites()


@main.command(epilog="Example: marginbench heads --plugin my_head.py")
@click.argument("names", nargs=-1, metavar="[HEAD]...")
@_plugin_option
def heads(names: tuple[str, ...], plugins: tuple[str, ...]) -> None:
    """List the heads: formula, parameters with defaults and allowed values, source paper."""
    from marginbench.listings import print_heads

    _load(plugins)
    print_heads(list(names))


@main.command(epilog="Example: marginbench table1 cifar10")
@click.argument("names", nargs=-1, metavar="[NETWORK]...")
def table1(names: tuple[str, ...]) -> None:
    """Print the networks of the paper's Table 1: layers, parameters, multiply-accumulates."""
    from marginbench.listings import print_networks

    print_networks(list(names))


@main.command(
    "check-head",
    epilog="Example: marginbench check-head my_head.py",
)
@click.argument("target", metavar="NAME[:m=0.3,...]|FILE.py")
@_plugin_option
@click.option("--device", default="cpu", show_default=True, type=click.Choice(["cpu", "cuda"]))
def check_head(target: str, plugins: tuple[str, ...], device: str) -> None:
    """Prove that a head keeps its contract: gradients, edges, precision, state, and more.

    Of a file, every head that it registers is checked. The exit status is 1 if a check fails.
    """
    from marginbench.grids import parse_component
    from marginbench.live_display import make_console
    from marginbench.testing import print_checks, report_head

    _load(plugins)
    if target.endswith(".py"):
        reports = report_head(target, device=device)
    else:
        head = parse_component(target)
        reports = report_head(head.name, head.parameters, device=device)
    print_checks(reports, make_console())
    sys.exit(0 if all(report.passed for report in reports) else 1)


@main.command(
    cls=ManyHeads, epilog="Example: marginbench run digits --only softmax arcface --workers 2"
)
@_suite_options
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
    type=click.FloatRange(min=0),
    metavar="S",
    help="How often a running cell writes its checkpoint.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be run, and run nothing.")
@click.option("--no-report", is_flag=True, help="Train only; write no report.")
@click.option("--force", is_flag=True, help="Run finished and damaged cells again, from the start.")
@retrain_stale
def run(**options: Any) -> None:
    """Run the cells of SUITE that are not done, here, then write the report.

    SUITE is a name (see `marginbench suites`) or the path of your own suite file. What is done is
    never run again; what was interrupted goes on from its checkpoint.
    """
    from marginbench.run_command import run_suite

    _load(options.pop("plugins"))
    sys.exit(run_suite(runs=Path(options.pop("runs")), **options))


@main.command(cls=ManyHeads, epilog="Example: marginbench report digits --section comparison")
@_suite_options
@click.option(
    "--section",
    "sections",
    multiple=True,
    metavar="NAME",
    help="Only this section. May be repeated.",
)
def report(**options: Any) -> None:
    """Write the report of SUITE from what is there, finished or not."""
    from marginbench.report_command import report_suite

    _load(options.pop("plugins"))
    sys.exit(report_suite(runs=Path(options.pop("runs")), **options))


@main.command(
    cls=ManyHeads,
    epilog="Example: marginbench submit digits --partition gpu --hours 4 --max-parallel 16",
)
@_suite_options_of_submit
@cluster_options
@click.option("--retry-failed", is_flag=True, help="Submit the failed cells again too.")
@retrain_stale
@click.option("--dry-run", is_flag=True, help="Show the cells and the sbatch script; submit none.")
def submit(**options: Any) -> None:
    """Hand the cells of SUITE that are neither done nor in the queue to a SLURM cluster.

    Returns at once; `marginbench status` tells how they fare. Settings that are not given come
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

    All names of a profile: executor, partition, account, qos, constraint, gpus, cpus, mem, hours,
    max_parallel, cells_per_job, tries, threads, checkpoint_seconds, grace, setup, and sbatch, a
    table with further options of sbatch.
    """
    from marginbench.submit_command import submit_suite

    _load_lightly(options.pop("plugins"))
    suite = {name: options.pop(name) for name in ("suite", "seeds", "size", "only", "more_heads")}
    rest = {
        name: options.pop(name) for name in ("profile", "retry_failed", "retrain_stale", "dry_run")
    }
    sys.exit(submit_suite(runs=Path(options.pop("runs")), given=options, **suite, **rest))


@main.command(cls=ManyHeads, epilog="Example: marginbench status digits --only l-softmax --watch")
@_suite_options
@click.option("--watch", is_flag=True, help="Print anew until nothing runs or waits.")
@click.option(
    "--every",
    default=15.0,
    show_default=True,
    type=click.FloatRange(min=1),
    metavar="S",
    help="Seconds between two looks of --watch; each asks SLURM once.",
)
@click.option("--all", "every_cell", is_flag=True, help="List every cell, even of thousands.")
def status(watch: bool, every: float, **options: Any) -> None:
    """Show the cells of SUITE: done, running with progress, waiting (why), failed, lost, ..."""
    from marginbench.status_board import show_status

    _load_lightly(options.pop("plugins"))
    runs = Path(options.pop("runs"))
    sys.exit(show_status(runs=runs, watch=every if watch else None, **options))


@main.command(cls=ManyHeads, epilog="Example: marginbench logs digits 3fa9c1")
@_suite_options
@click.argument("cell")
def logs(cell: str, **options: Any) -> None:
    """Print the output of CELL of SUITE: its training's and its job's.

    CELL is the name of its folder, its key (the folder's last part) or the key's beginning.
    """
    from marginbench.queue_command import show_logs

    _load_lightly(options.pop("plugins"))
    sys.exit(show_logs(runs=Path(options.pop("runs")), name=cell, **options))


@main.command(cls=ManyHeads, epilog="Example: marginbench cancel digits --only hinge")
@_suite_options
@click.argument("cells", nargs=-1, metavar="[CELL]...")
def cancel(cells: tuple[str, ...], **options: Any) -> None:
    """Take the cells of SUITE, or only CELLs, out of the queue.

    A running one writes its checkpoint; `marginbench submit` goes on from there.
    """
    from marginbench.queue_command import cancel as cancel_cells

    _load_lightly(options.pop("plugins"))
    sys.exit(cancel_cells(runs=Path(options.pop("runs")), names=cells, **options))


def _load(plugins: tuple[str, ...]) -> None:
    from marginbench.plugins import load_plugin_file

    for file in plugins:
        load_plugin_file(file)


def _load_lightly(plugins: tuple[str, ...]) -> None:
    """For commands that do without torch: a file with heads alone is read, not run."""
    from marginbench.static_catalog import load_plugin_lightly

    # Thousands of cells are made and kept: looking through them for garbage is a fifth of the time.
    gc.set_threshold(200_000, 50, 50)
    for file in plugins:
        load_plugin_lightly(file)


if __name__ == "__main__":
    main()
