"""How the command ends: errors and warnings of one line, without a traceback."""

from __future__ import annotations

import signal
import sys
from typing import Any

import click

from marginbench.errors import UserError
from marginbench.text import printable, quoted

INTERRUPTED_STATUS = 130


class Group(click.Group):
    """Prints a user's error in one line, without a traceback, and exits with status 1.

    Interrupted by Ctrl-C, the exit status is 130.
    """

    def main(self, *args: Any, **options: Any) -> Any:
        for stream in (sys.stdout, sys.stderr):
            # A character that the terminal's encoding lacks is no reason to end.
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        return super().main(*args, **options)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The first sentence on each verb, whole; click cuts it to one line."""
        verbs = [(name, self.commands[name]) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, verb.get_short_help_str(1_000)) for name, verb in verbs])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """As click does; an option that takes one value is refused if it is given twice."""
        name, verb, rest = super().resolve_command(ctx, args)
        given = [word.partition("=")[0] for word in rest]
        for option in verb.params if verb is not None else ():
            single = isinstance(option, click.Option) and not (option.multiple or option.is_flag)
            if single and sum(given.count(word) for word in option.opts) > 1:
                raise click.UsageError(f"{option.opts[0]} is given twice; allowed: once")
        return name, verb, rest

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            show_error(error)
            sys.exit(1)
        except KeyboardInterrupt:
            # Before anything is trained, or after: training ends by itself when it is asked to.
            click.echo("stopped; the same command continues", err=True)
            # Where a text was being executed, as within an import, Python would end by the signal.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            sys.exit(INTERRUPTED_STATUS)
        except click.UsageError as error:
            if isinstance(error, click.NoSuchOption):
                error.message = self._unknown_option(error)  # type: ignore[misc]
            if error.message == "No such command 'watch'.":  # removed: anybody here could read it
                error.message += " Use `marginbench report SUITE --every 60`."  # type: ignore[misc]
            error.message = printable(error.message)  # type: ignore[misc]
            raise

    def _unknown_option(self, error: click.NoSuchOption) -> str:
        """What is wrong, which verbs have the option, and what may be meant by --profile."""

        def options_of(verb: click.Command) -> set[str]:
            with click.Context(verb) as ctx:
                return {name for option in verb.get_params(ctx) for name in option.opts}

        verbs = [verb for verb, it in self.commands.items() if error.option_name in options_of(it)]
        text = f"No such option {quoted(error.option_name)}"
        text += f"; it is an option of {', '.join(verbs)}" if verbs else ""
        command = error.ctx.command if error.ctx is not None else None
        if error.option_name == "--profile" and command and "--size" in options_of(command):
            text += " (a cluster's settings); a suite's scale is --size"
        return text


def show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Print a warning as one line; for ``warnings.showwarning``."""
    click.echo(f"marginbench: warning: {printable(' '.join(str(message).split()))}", err=True)


def show_error(error: UserError) -> None:
    """Print a user's error as one line."""
    click.echo(f"marginbench: {printable(' '.join(str(error).split()))}", err=True)
