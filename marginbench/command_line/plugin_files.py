"""The option ``--plugin``, and how its files are loaded."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import click


def plugin_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: ``--plugin FILE.py``, as often as need be."""
    return click.option(
        "--plugin",
        "plugins",
        multiple=True,
        metavar="FILE.py",
        help="A file with your own heads, suites or sections. May be repeated.",
    )(command)


def load_plugins(files: tuple[str, ...]) -> None:
    """Run the files.

    Raises:
        UserError: a file that is not there or does not import.
    """
    from marginbench.plugins.loading import load_plugin_file

    for file in files:
        load_plugin_file(file)


def know_plugins(files: tuple[str, ...]) -> None:
    """For commands that do without torch: a file with heads alone is read, not run.

    Raises:
        UserError: as :func:`load_plugins`.
    """
    from marginbench.plugins.registrations import know_plugin_file

    # Thousands of cells are made and kept: collecting garbage among them takes a fifth of the time.
    gc.set_threshold(200_000, 50, 50)
    for file in files:
        know_plugin_file(file)
