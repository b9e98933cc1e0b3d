"""The options of the verbs that train here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from marginbench.command_line.suite_options import FiniteNumber, retrain_stale_option

_TRAINING_OPTIONS: list[Callable[..., Any]] = [
    click.option(
        "--workers",
        type=click.IntRange(min=1),
        metavar="N",
        help="Cells trained at a time. Default: one per GPU, or one per CPU core.",
    ),
    click.option(
        "--device",
        default="auto",
        show_default=True,
        type=click.Choice(["auto", "cpu", "cuda"]),
        help="Where to train; auto is CUDA where there is one.",
    ),
    click.option(
        "--threads",
        default=1,
        show_default=True,
        type=click.IntRange(min=1),
        metavar="N",
        help="CPU threads a cell. Runs repeat to the bit only with the same number.",
    ),
    click.option(
        "--checkpoint-seconds",
        default=60.0,
        show_default=True,
        type=FiniteNumber(min=0),
        metavar="S",
        help="How often a running cell writes its checkpoint.",
    ),
    click.option("--dry-run", is_flag=True, help="Show what would be run, and run nothing."),
    click.option("--no-report", is_flag=True, help="Train only; write no report."),
    click.option(
        "--force", is_flag=True, help="Run finished and damaged cells again, from the start."
    ),
    retrain_stale_option,
]


def training_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: how cells are trained here, and which of those that are done are trained again."""
    for decorate in reversed(_TRAINING_OPTIONS):
        command = decorate(command)
    return command
