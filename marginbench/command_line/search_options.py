"""The options of a search, and the one that says that it is meant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

_SEARCH_OPTIONS: list[Callable[..., Any]] = [
    click.option(
        "--trials",
        type=click.IntRange(min=1),
        metavar="N",
        help="Of every head, the suite's own values among them. Default: as last time, or the "
        "suite's number, mostly 16.",
    ),
    click.option(
        "--repeats",
        type=click.IntRange(min=1),
        metavar="R",
        help="Repeat the whole search so often, each with a final run of its own seed.",
    ),
]


def search_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: how many trials, how many searches."""
    for decorate in reversed(_SEARCH_OPTIONS):
        command = decorate(command)
    return command


def tuned_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: ``--tuned``."""
    return click.option(
        "--tuned",
        is_flag=True,
        help="The suite's search and the final runs of its choices; see `marginbench tune`.",
    )(command)
