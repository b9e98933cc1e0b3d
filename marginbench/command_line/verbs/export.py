"""The verb ``export``: its options and its help. Heavy imports wait until it runs."""

from __future__ import annotations

import click

from marginbench.command_line.plugin_files import plugin_option


@click.command(
    epilog="Example: marginbench export runs/digits/digits-small-softmax-seed0-7e14120448f6 "
    "--to model.onnx"
)
@click.argument("cell", metavar="CELL")
@plugin_option
@click.option(
    "--to", required=True, metavar="FILE", help="A file that ends in .safetensors or .onnx."
)
def export(cell: str, plugins: tuple[str, ...], to: str) -> None:
    """Write the model of a finished cell as safetensors or ONNX, checked against torch.

    CELL is its run folder, RUNS/SUITE/CELL-KEY.
    """
    from marginbench.training.exporting import export_model

    difference, images = export_model(cell, to, plugins=plugins)
    click.echo(
        f"{to}: on {images:,} test images the features differ from torch's by at most "
        f"{difference:.2g}"
    )
