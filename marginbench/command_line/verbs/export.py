"""The verb ``export``: its options and its help. Heavy imports wait until it runs."""

from __future__ import annotations

import sys
from typing import Any

import click

from marginbench.command_line.plugin_files import load_plugins
from marginbench.command_line.suite_options import folder_option, suite_options
from marginbench.command_line.suite_selection import SuiteSelection
from marginbench.errors import UserError


@click.command(epilog="Example: marginbench export digits --csv tables --figures figures")
@suite_options
@click.option(
    "--to",
    metavar="FILE",
    help="The model of a finished cell, checked against torch: a file that ends in .safetensors or "
    ".onnx. SUITE is then the cell's run folder, RUNS/SUITE/CELL-KEY.",
)
@folder_option("--csv", help="results.csv, a row a cell, and history.csv, a row an evaluation.")
@folder_option("--parquet", help="The same as Parquet; needs marginbench[parquet].")
@folder_option("--tensorboard", help="Event files, a run a cell; needs marginbench[tensorboard].")
@folder_option("--figures", help="PDF, SVG and PNG of every figure, for one and two columns.")
def export(to: str | None, **options: Any) -> None:
    """Write the results, histories and figures of SUITE for other programs and for papers.

    With --to, the trained model of one cell.
    """
    plugins = options.pop("plugins")
    selection = SuiteSelection.taken_from(options)
    if to is None:
        from marginbench.command_line.export import export_suite

        load_plugins(plugins)
        sys.exit(export_suite(selection, **options))
    if any(options.values()):
        raise UserError("--to is not allowed with --csv, --parquet, --tensorboard or --figures")
    from marginbench.training.exporting import export_model

    difference, images = export_model(selection.suite, to, plugins=plugins)
    click.echo(
        f"{to}: the features differ from torch's by at most {difference:.2g} on {images:,} images"
    )
