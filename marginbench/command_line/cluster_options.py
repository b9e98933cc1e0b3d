"""The options of ``submit`` that say what a job asks of the cluster: fields of its settings."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

import click


class SubmitCommand(click.Command):
    """A command with an option for each field of ``ClusterSettings``.

    The options are made when this command is asked for: the settings import pydantic, which
    ``marginbench --help`` does without.
    """

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        *own, help_option = super().get_params(ctx)
        return [*own, *_options(), help_option]

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from marginbench.dispatch.slurm.settings import ClusterSettings

        super().format_help_text(ctx, formatter)
        formatter.write_paragraph()
        with formatter.indentation():
            names = ", ".join(ClusterSettings.model_fields)
            formatter.write_text(
                f"All names of a profile: {names}. The last is a table with further options of "
                "sbatch by their long names."
            )


@cache
def _options() -> list[click.Option]:
    """An option for each field that is one value or a list of values."""
    from marginbench.dispatch.slurm.settings import ClusterSettings

    # Without the annotations of ranges, which the settings themselves check.
    hints = get_type_hints(ClusterSettings)
    options = []
    for name, field in ClusterSettings.model_fields.items():
        kind = _type_of_value(hints[name])
        if kind is None:
            continue
        text, default = str(field.description), field.default
        extra: Any = field.json_schema_extra
        if default not in (None, ()):
            text += f" Default: {default if isinstance(default, str) else f'{default:g}'}."
        options.append(
            click.Option(
                [f"--{name.replace('_', '-')}"],
                type=kind,
                multiple=extra["repeated"],
                metavar=extra["unit"],
                help=text,
            )
        )
    return options


def _type_of_value(hint: Any) -> Any:
    """What click makes of an option's text; None of a table, which is no option."""
    if get_origin(hint) is Literal:
        return click.Choice(get_args(hint))
    if get_origin(hint) is dict:
        return None
    if set(get_args(hint)) == {int, str}:
        return lambda text: int(text) if text.isdecimal() or text[:1] == "-" else text
    return next(kind for kind in (hint, *get_args(hint)) if kind in (int, float, str))
