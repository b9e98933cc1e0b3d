"""How many cells are trained side by side: one a core, or on GPUs one or a few a GPU."""

from __future__ import annotations

from collections.abc import Iterable

from marginbench.errors import UserError
from marginbench.experiments.cells import Cell
from marginbench.processes import cores

SMALL_STEP = 10**10
"""Multiply-accumulates of a step, forward: with fewer, a GPU waits for what launches the step."""
MOST_ON_A_GPU = 4


def cells_on_a_gpu(cells: Iterable[Cell], gpus: int) -> int:
    """How many cells share a GPU.

    One, unless a step of every cell is small (:data:`SMALL_STEP`): then as many as each GPU has
    cores for, since each has a process that launches its steps, and at most
    :data:`MOST_ON_A_GPU`. ``--workers`` overrides it.

    Args:
        cells: resolved.
        gpus: of this machine, ≥ 1.
    """
    most = min(MOST_ON_A_GPU, cores() // gpus)
    if most < 2:
        return 1
    # The cells of a comparison differ in head and seed only.
    one_each = {cell.comparison: cell for cell in cells}
    return most if all(map(_is_small, one_each.values())) else 1


def _is_small(cell: Cell) -> bool:
    # Imported here: the parent that starts processes needs torch for GPUs only.
    import torch

    from marginbench.backbones import build_backbone
    from marginbench.backbones.model_size import model_size
    from marginbench.data import load_data

    try:
        shape = load_data(cell.data.name, cell.data.parameters).image_shape
        with torch.device("meta"):
            model = build_backbone(cell.backbone.name, shape, cell.backbone.parameters)
    except UserError:
        # Whoever trains it says so.
        return False
    return model_size(model, shape).macs * cell.schedule.batch_size < SMALL_STEP
