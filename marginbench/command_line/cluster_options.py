"""The options of ``submit`` that say what a job asks of the cluster. Nothing heavy is imported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

_OPTIONS = [
    click.option("--profile", metavar="NAME", help="The cluster's settings: see below."),
    click.option(
        "--executor",
        type=click.Choice(["slurm", "local"]),
        help="local: processes on this machine, without SLURM. Default: slurm.",
    ),
    click.option("--partition", metavar="P", help="Default: the cluster's."),
    click.option("--account", metavar="A"),
    click.option("--qos", metavar="Q"),
    click.option("--constraint", metavar="C"),
    click.option(
        "--gpus",
        type=int,
        metavar="N",
        help="GPUs of a job; several train each of its cells together. Default: 1; with "
        "--executor local 0, where this machine has none.",
    ),
    click.option(
        "--processes",
        type=int,
        metavar="N",
        help="Processes that train a cell together. Default: one per GPU.",
    ),
    click.option("--cpus", type=int, metavar="N", help="CPU cores of a process. Default: 1."),
    click.option("--mem", type=float, metavar="GB", help="Memory. Default: the cluster's."),
    click.option(
        "--hours",
        type=float,
        metavar="H",
        help="Time limit of a job; a cell that needs longer goes on in the next. Default: 4.",
    ),
    click.option(
        "--max-parallel", type=int, metavar="N", help="Jobs that run at a time. Default: no limit."
    ),
    click.option(
        "--cells-per-job",
        type=int,
        metavar="N",
        help="Short cells that one job trains one after the other. Default: 1.",
    ),
    click.option(
        "--tries",
        type=int,
        metavar="N",
        help="How often a cell that fails or is killed is tried. Default: 3.",
    ),
    click.option("--threads", type=int, metavar="N", help="CPU threads of a cell. Default: 1."),
    click.option(
        "--checkpoint-seconds",
        type=float,
        metavar="S",
        help="How often a running cell writes its checkpoint. Default: 60.",
    ),
    click.option(
        "--grace",
        type=int,
        metavar="S",
        help="Seconds before the end at which a job writes its checkpoint. Default: 90.",
    ),
    click.option(
        "--setup",
        multiple=True,
        metavar="LINE",
        callback=lambda context, option, value: value or None,
        help="A shell line for the node before Python starts. May be repeated.",
    ),
]


def cluster_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: the options of :class:`marginbench.dispatch.slurm.settings.ClusterSettings`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
