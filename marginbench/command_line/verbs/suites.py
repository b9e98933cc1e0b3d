"""The verb ``suites``: its options and its help. Heavy imports wait until it runs."""

from __future__ import annotations

import sys

import click

from marginbench.command_line.command_group import show_error
from marginbench.command_line.plugin_files import plugin_option
from marginbench.errors import UserError


@click.command(epilog="Example: marginbench suites --plugin my_suite.py")
@plugin_option
def suites(plugins: tuple[str, ...]) -> None:
    """List the suites: how many cells each has, and what it needs.

    Of a plug-in file or a suite that is wrong the error is printed, and the exit status is 1.
    """
    from marginbench.command_line.listings import print_suites
    from marginbench.plugins.loading import load_plugin_file

    wrong = False
    for file in plugins:
        try:
            load_plugin_file(file)
        except UserError as error:
            show_error(error)
            wrong = True
    sys.exit(0 if print_suites() and not wrong else 1)
