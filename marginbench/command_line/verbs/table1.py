"""The verb ``table1``: its options and its help. Heavy imports wait until it runs."""

from __future__ import annotations

import click


@click.command(epilog="Example: marginbench table1 cifar10")
@click.argument("names", nargs=-1, metavar="[NETWORK]...")
def table1(names: tuple[str, ...]) -> None:
    """Print the networks of the paper's Table 1: layers, parameters, multiply-accumulates."""
    from marginbench.command_line.listings import print_networks

    print_networks(list(names))
