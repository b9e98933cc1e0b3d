"""The fraction of the grid: readable, and enough to tell effects and interactions apart."""

from collections import Counter

import numpy as np
import pytest

from marginbench.experiments.resolution import Resolver
from marginbench.experiments.suites import find_suite


def departures(cell):
    return [
        one
        for one, baseline in (
            (cell.head.name, "softmax"),
            (cell.regulariser and cell.regulariser.name, None),
            (cell.backbone.parameters.get("conv", "plain"), "plain"),
            (cell.training.kind, "standard"),
        )
        if one != baseline
    ]


@pytest.mark.parametrize(
    ("size", "data"), [("small", {"digits"}), ("full", {"digits", "cifar100"})]
)
def test_each_part_is_there_alone_and_with_each_other_one(size, data):
    cells = find_suite("hypersphere").cells(1, size)
    assert {cell.data.name for cell in cells} == data
    for name in data:
        own = [departures(cell) for cell in cells if cell.data.name == name]
        assert Counter(map(len, own)) == {0: 1, 1: 8, 2: 23}
        assert len({tuple(one) for one in own}) == 32
        # Intercept, main effects and pairs: as many columns as runs, and all of them independent.
        parts = sorted({part for one in own for part in one})
        pairs = [tuple(one) for one in own if len(one) == 2]
        matrix = [
            [1, *(p in one for p in parts), *(set(pair) <= set(one) for pair in pairs)]
            for one in own
        ]
        assert np.linalg.matrix_rank(np.array(matrix, dtype=float)) == 32


def test_the_settings_say_what_departs_and_every_cell_can_be_built():
    resolver = Resolver()
    cells = [resolver(cell) for cell in find_suite("hypersphere").cells(1, "small")]
    assert len({cell.key for cell in cells}) == 32
    settings = {cell.setting for cell in cells}
    assert {"ten digits: standard", "ten digits: MHE + SphereConv", "ten digits: OPT"} <= settings
