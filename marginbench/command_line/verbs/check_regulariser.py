"""The verb ``check-regulariser``: its options and its help. Heavy imports wait until it runs."""

from __future__ import annotations

import sys

import click

from marginbench.command_line.plugin_files import load_plugins, plugin_option


@click.command(
    "check-regulariser",
    epilog="Example: marginbench check-regulariser my_regulariser.py",
)
@click.argument("target", metavar="NAME[:power=2,...]|FILE.py")
@plugin_option
@click.option("--device", default="cpu", show_default=True, type=click.Choice(["cpu", "cuda"]))
def check_regulariser(target: str, plugins: tuple[str, ...], device: str) -> None:
    """Prove that a regulariser keeps its contract: gradients, edges, shares, state, and more.

    Of a file, every regulariser that it registers is checked. The exit status is 1 if a check
    fails.
    """
    from marginbench.command_line.live_display import make_console
    from marginbench.experiments.grids import parse_component
    from marginbench.testing import print_checks, report_regulariser
    from marginbench.training.devices import choose_device

    choose_device(device)
    load_plugins(plugins)
    if target.endswith(".py"):
        reports = report_regulariser(target, device=device)
    else:
        part = parse_component(target)
        reports = report_regulariser(part.name, part.parameters, device=device)
    print_checks(reports, make_console())
    sys.exit(0 if all(report.passed for report in reports) else 1)
