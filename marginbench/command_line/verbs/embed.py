"""The verb ``embed``: its options and its help. Heavy imports wait until it runs."""

from __future__ import annotations

import click

from marginbench.command_line.plugin_files import plugin_option
from marginbench.command_line.suite_options import data_option


@click.command(
    epilog="Example: marginbench embed runs/birds/folder-small-arcface-m0.2-seed0-0123456789ab "
    "new-birds --to features.npz"
)
@click.argument("cell", metavar="CELL")
@click.argument("images", nargs=-1, required=True, metavar="IMAGES...")
@plugin_option
@data_option
@click.option("--to", default="features.npz", show_default=True, metavar="FILE.npz")
def embed(cell: str, images: tuple[str, ...], plugins: tuple[str, ...], to: str) -> None:
    """Write the features of images, by the model of a finished cell.

    CELL is its run folder, RUNS/SUITE/CELL-KEY. IMAGES are files and folders of them; each image
    is resized to the size trained on. The file has features (N, D) and files (N,).
    """
    from marginbench.training.embedding import embed as write_features

    click.echo(f"{to}: features of {write_features(cell, images, to, plugins=plugins):,} images")
