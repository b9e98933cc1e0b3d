"""The options ``--until-decided`` and ``--max-seeds`` of ``run`` and ``submit``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from marginbench.errors import UserError

_OPTIONS = [
    click.option(
        "--until-decided",
        is_flag=True,
        help="Add seeds in planned looks (5, 8, 12, ...; the first at the suite's own number, if "
        "more than 5) until each head is better, worse or equal; the looks share the 5 % of false "
        "claims. Decided heads stop.",
    ),
    click.option(
        "--max-seeds",
        type=click.IntRange(min=5),
        metavar="N",
        help="With --until-decided: at most so many seeds. Default: 30.",
    ),
]


def until_decided_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: ``--until-decided`` and ``--max-seeds``."""
    for decorate in reversed(_OPTIONS):
        command = decorate(command)
    return command


def refuse_max_seeds(max_seeds: int | None) -> None:
    """For a command without ``--until-decided``.

    Raises:
        UserError: ``--max-seeds`` is given.
    """
    if max_seeds is not None:
        raise UserError("--max-seeds is allowed with --until-decided only; allowed: --seeds")
