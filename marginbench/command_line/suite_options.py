"""The options that say which cells of a suite are meant, and where they are."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from marginbench.command_line.plugin_files import plugin_option
from marginbench.errors import UserError
from marginbench.text import quoted

DEFAULT_RUNS = "runs"
# As long as what lies below a runs folder: the suite's folder, the cell's, a file.
_ROOM_BELOW = ["x" * 30] * 16


def folder_option(name: str, **options: Any) -> Callable[..., Any]:
    """An option that names a folder, there or to be made; see :func:`_folder`."""
    return click.option(name, metavar="DIR", callback=_folder, **options)


class FiniteNumber(click.FloatRange):
    """A number in a range, neither infinite nor NaN, which click lets pass."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


def _folder(ctx: click.Context, option: click.Parameter, value: str | None) -> Path | None:
    """The path of a folder that is there or can be made.

    Raises:
        UserError: something else is there, or no folder can be called so.
    """
    if value is None:
        return None
    try:
        if not value:
            raise OSError("it is empty")
        folder = Path(value).expanduser()
        if folder.exists() and not folder.is_dir():
            raise OSError("it is a file")
        folder.joinpath(*_ROOM_BELOW).exists()
        folder.stat()
    except FileNotFoundError:
        pass
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"{option.opts[0]} {quoted(value)} is not allowed: {reason}; allowed: a folder, or "
            "the path of one to be made"
        ) from None
    return folder


def _set_data_root(ctx: click.Context, option: click.Parameter, value: str | None) -> None:
    """By the environment, which worker processes inherit; the path is no part of any cell."""
    folder = _folder(ctx, option, value)
    if folder is not None:
        os.environ["MARGINBENCH_DATA"] = str(folder.absolute())


def _head_names(
    ctx: click.Context, option: click.Parameter, values: tuple[str, ...]
) -> tuple[str, ...]:
    """The names in comma-separated lists: ``--only softmax,arcface --only hinge`` has three.

    Raises:
        UserError: a name is empty.
    """
    names = []
    for value in values:
        parts = [part.strip() for part in value.split(",")]
        if not all(parts):
            raise UserError(
                f"{option.opts[0]} {quoted(value)} is not allowed: a name is empty; allowed: "
                "names of heads with commas between them"
            )
        names += parts
    return tuple(names)


retrain_stale_option = click.option(
    "--retrain-stale",
    is_flag=True,
    help="Train finished cells anew whose results are of other code or other images.",
)


data_option = click.option(
    "--data",
    metavar="DIR",
    expose_value=False,
    callback=_set_data_root,
    help="Where data sets are; MARGINBENCH_DATA sets it too. Default: ~/.cache/marginbench/data.",
)


_SUITE_OPTIONS: list[Callable[..., Any]] = [
    click.argument("suite"),
    plugin_option,
    click.option(
        "--runs",
        default=DEFAULT_RUNS,
        show_default=True,
        metavar="DIR",
        envvar="MARGINBENCH_RUNS",
        callback=_folder,
        help="Where the run folders are; MARGINBENCH_RUNS sets it too.",
    ),
    click.option("--seeds", type=click.IntRange(min=1), metavar="N", help="Seeds 0 to N−1."),
    click.option(
        "--size",
        default="full",
        show_default=True,
        metavar="NAME",
        help="small: the suite's experiment at a size for two CPU cores, where it has one.",
    ),
    data_option,
    click.option(
        "--only",
        multiple=True,
        metavar="HEAD,...",
        callback=_head_names,
        help="Only the cells with these heads: softmax,arcface. May be repeated.",
    ),
    click.option(
        "--head",
        "more_heads",
        multiple=True,
        metavar="NAME[:m=0.3,...]",
        help="A further head in every comparison of the suite. May be repeated.",
    ),
]


_TYPED_AGAIN = ("plugins", "runs", "size", "data", "only", "more_heads")


def typed_suite() -> str:
    """SUITE and its options as this command was given them, but the seeds, quoted for a shell.

    "" outside a command, and if it was given several suites.
    """
    context = click.get_current_context(silent=True)
    if context is None or "suite" not in context.params or context.params.get("more_suites"):
        return ""
    words = [context.params["suite"]]
    values = {**context.params, "data": os.environ.get("MARGINBENCH_DATA")}
    for option in context.command.params:
        name = option.name or ""
        source = context.get_parameter_source(name)
        if name in _TYPED_AGAIN and source is ParameterSource.COMMANDLINE:
            value = values[name]
            for one in value if isinstance(value, tuple) else (value,):
                words += [option.opts[0], str(one)]
    return shlex.join(words)


def suite_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: SUITE and the options that say which of its cells, and where."""
    for decorate in reversed(_SUITE_OPTIONS):
        command = decorate(command)
    return command
