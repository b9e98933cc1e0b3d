"""A small suite that is trained once for all tests of the report."""

from marginbench.experiments.cell_fields import Optimiser
from marginbench.experiments.grids import component
from marginbench.experiments.suites import Suite
from marginbench.runs.run_folder import RunFolder
from marginbench.runs.suite_runs import SuiteRun
from tests.conftest import tiny_cell

HEADS = [
    ("softmax", {}),
    ("l-softmax", {"m": 2}),
    ("l-softmax", {"m": 3}),
    ("am-softmax", {"s": 8.0}),
]


def trained_cells():
    """Four heads with two seeds, closed set with 2-D features, and two heads open set."""
    open_set = component("digits", left_out=[6, 7, 8, 9])
    cells = [
        tiny_cell(h, seed=s, **p).model_copy(update={"setting": "closed"})
        for h, p in HEADS
        for s in (0, 1)
    ]
    cells += [
        tiny_cell(h, seed=s, data=open_set).model_copy(update={"setting": "open"})
        for h in ("softmax", "contrastive")
        for s in (0, 1)
    ]
    gentle = Optimiser(learning_rate=0.03)
    return [cell.model_copy(update={"optimiser": gentle}) for cell in cells]


def suite_of(cells, sections=None):
    return Suite("tested", "a suite", "nothing", 2, "softmax", sections, lambda seeds: cells)


def run_of(folder, cells):
    return SuiteRun(suite_of(cells), folder, [RunFolder(folder, c) for c in cells], len(cells))
