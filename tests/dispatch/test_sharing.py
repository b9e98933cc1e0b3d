"""How many cells are trained side by side."""

import pytest

from marginbench.dispatch import local, sharing
from marginbench.experiments.cells import Schedule
from tests.conftest import tiny_cell


@pytest.mark.parametrize(
    ("cores", "gpus", "batch", "expected"),
    [(16, 2, 32, 8), (6, 2, 32, 6), (2, 2, 32, 2), (16, 1, 10**6, 1), (5, 0, 32, 5)],
)
def test_small_cells_share_a_gpu_as_far_as_there_are_cores(
    cores, gpus, batch, expected, monkeypatch
):
    monkeypatch.setattr(local, "_gpus", lambda device: gpus)
    monkeypatch.setattr(local, "cores", lambda: cores)
    monkeypatch.setattr(sharing, "cores", lambda: cores)
    large = tiny_cell(schedule=Schedule(iterations=9, batch_size=batch, evaluations=1))
    assert local.default_workers("auto", [tiny_cell(), large]) == expected
