"""The verb ``heads``: its options and its help. Heavy imports wait until it runs."""

from __future__ import annotations

import click

from marginbench.command_line.plugin_files import load_plugins, plugin_option


@click.command(epilog="Example: marginbench heads --plugin my_head.py")
@click.argument("names", nargs=-1, metavar="[HEAD]...")
@plugin_option
def heads(names: tuple[str, ...], plugins: tuple[str, ...]) -> None:
    """List the heads: formula, parameters with defaults and allowed values, source paper."""
    from marginbench.command_line.listings import print_heads

    load_plugins(plugins)
    print_heads(list(names))
