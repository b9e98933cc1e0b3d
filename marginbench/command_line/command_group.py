"""How the command and its verbs read their arguments, and how they end."""

from __future__ import annotations

import sys
from typing import Any

import click

from marginbench.errors import UserError
from marginbench.text import printable


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

    def main(self, *args: Any, **options: Any) -> Any:
        for stream in (sys.stdout, sys.stderr):
            # A character that the terminal's encoding lacks is no reason to end.
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        return super().main(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            show_error(error)
            sys.exit(1)
        except click.UsageError as error:
            error.message = printable(error.message)
            raise


def show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Print a warning as one line; for ``warnings.showwarning``."""
    click.echo(f"marginbench: warning: {printable(' '.join(str(message).split()))}", err=True)


def show_error(error: UserError) -> None:
    """Print a user's error as one line."""
    click.echo(f"marginbench: {printable(' '.join(str(error).split()))}", err=True)
