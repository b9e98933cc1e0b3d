"""The command ``marginbench``. Heavy imports wait until a verb needs them."""

from __future__ import annotations

import warnings

import click

from marginbench import __version__
from marginbench.command_line.command_group import Group, show_warning
from marginbench.command_line.verbs.cancel import cancel
from marginbench.command_line.verbs.check_head import check_head
from marginbench.command_line.verbs.check_regulariser import check_regulariser
from marginbench.command_line.verbs.embed import embed
from marginbench.command_line.verbs.export import export
from marginbench.command_line.verbs.heads import heads
from marginbench.command_line.verbs.logs import logs
from marginbench.command_line.verbs.report import report
from marginbench.command_line.verbs.run import run
from marginbench.command_line.verbs.status import status
from marginbench.command_line.verbs.submit import submit
from marginbench.command_line.verbs.suites import suites
from marginbench.command_line.verbs.table1 import table1
from marginbench.command_line.verbs.tune import tune


@click.group(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: marginbench run digits --seeds 5 --workers 2",
)
@click.version_option(__version__, prog_name="marginbench")
def main() -> None:
    """Compare margin losses: run a grid of training runs, read one report."""
    warnings.showwarning = show_warning


for verb in (
    suites,
    heads,
    table1,
    check_head,
    check_regulariser,
    run,
    tune,
    report,
    submit,
    status,
    logs,
    cancel,
    export,
    embed,
):
    main.add_command(verb)


if __name__ == "__main__":
    main()
