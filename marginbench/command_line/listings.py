"""The lists of suites, heads and networks, as printed."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from marginbench.command_line.live_display import make_console
from marginbench.errors import UserError
from marginbench.experiments.resolution import Resolver
from marginbench.experiments.suites import find_suite, suite_names
from marginbench.text import quoted


def print_suites() -> bool:
    """Each suite with its number of cells and what it needs; one that fails says why.

    Returns:
        Whether none failed.
    """
    failed = False
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("suite", "cells", "heads", "seeds", "sizes", "needs", "what it is"):
        table.add_column(
            column, justify="right" if column in ("cells", "heads", "seeds") else "left"
        )
    resolver = Resolver()
    for name in suite_names():
        suite = find_suite(name)
        try:
            cells = resolver.with_other_heads(suite.cells())
            heads = {(cell.head.name, quoted(cell.head.parameters.get("m"))) for cell in cells}
            numbers = (str(len(cells)), str(len(heads)))
            described = Text(suite.description)
        except UserError as error:
            numbers, described = ("–", "–"), Text(str(error), style="red")
            failed = True
        sizes = ", ".join(suite.sizes)
        table.add_row(name, *numbers, str(suite.seeds), sizes, Text(suite.needs), described)
    make_console().print(table)
    return not failed


def print_heads(names: list[str]) -> None:
    """Each head with formula, parameters and paper.

    Args:
        names: the heads to print; empty for all.

    Raises:
        UserError: an unknown head.
    """
    from marginbench.heads import head_class, head_names
    from marginbench.plugins.parameters import describe_parameters

    console = make_console()
    for name in names or head_names():
        head = head_class(name)
        console.print(Text(name, style="bold"))
        console.print(Text(f"  {head.formula or '(no formula given)'}"))
        for parameter, default, allowed in describe_parameters(f"head {name!r}", head):
            console.print(Text(f"    {parameter} = {default}   ({allowed})"))
        console.print(Text(f"  {head.paper or '(no source given)'}\n", style="dim"))


def print_networks(names: list[str]) -> None:
    """The networks of Liu et al., ICML 2016, Table 1, layer by layer, with their totals.

    Args:
        names: of the backbones to print; empty for all five.

    Raises:
        UserError: an unknown network.
    """
    import torch

    from marginbench.backbones import build_backbone
    from marginbench.backbones.model_size import model_size
    from marginbench.backbones.table1 import NETWORKS

    unknown = [name for name in names if name not in NETWORKS]
    if unknown:
        raise UserError(
            f"unknown network {quoted(unknown[0])}; Table 1 has: {', '.join(sorted(NETWORKS))}"
        )
    console = make_console()
    for name in names or NETWORKS:
        image_shape = NETWORKS[name].image_shape
        # On the device "meta" nothing is computed and no memory is used.
        with torch.device("meta"):
            size = model_size(build_backbone(name, image_shape, {}), image_shape)
        shape = "×".join(str(number) for number in image_shape)
        table = Table(box=None, header_style="bold", pad_edge=False)
        for column in ("layer", "output", "parameters", "MACs (million)"):
            table.add_column(column, justify="left" if column == "layer" else "right")
        for layer in size.layers:
            output = "×".join(str(number) for number in layer.output_shape)
            counted = (
                (f"{layer.parameters:,}", f"{layer.macs / 1e6:.2f}") if layer.macs else ("", "")
            )
            table.add_row(layer.description, output, *counted)
        console.print(
            Text(f"{name}: images of {shape}, {size.parameters:,} parameters, ", style="bold")
            + Text(f"{size.macs / 1e6:,.1f} million multiply-accumulates an image", style="bold")
        )
        console.print(table)
        console.print(
            Text("  each convolution: batch normalisation and PReLU follow\n", style="dim")
        )
