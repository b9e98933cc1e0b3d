"""What the tests share: a suite that trains in a second, and cells to build by hand."""

import os
from pathlib import Path

import hypothesis
import pytest
import torch

from marginbench.cells import Component, Schedule, make_cell, resolve_cell
from marginbench.lease import Lease
from marginbench.store import RunFolder
from marginbench.training import train

# One thread: what repeats to the bit does so with a fixed number, and the tests run side by side.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")

# How long an example takes says nothing on a shared machine.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

TINY_SUITE = """
from marginbench.cells import Schedule
from marginbench.grids import component, grid, suite


SECTIONS = ("comparison", "overfitting", "account")


@suite("tiny", description="a suite for tests", seeds=2, sections=SECTIONS)
def tiny(seeds):
    return grid(
        setting="tiny",
        data="digits",
        backbone=component("small", widths=[4], features=2),
        head=["softmax", component("l-softmax", m=2)],
        schedule=Schedule(iterations=ITERATIONS, batch_size=32, evaluations=4),
        seed=seeds,
    )
"""


@pytest.fixture(scope="session")
def tiny_suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path of a suite file: two heads, two seeds, 24 iterations. One file: names are unique."""
    file = tmp_path_factory.mktemp("suite") / "tiny_suite.py"
    file.write_text(TINY_SUITE.replace("ITERATIONS", "24"))
    return file


def tiny_cell(head="softmax", *, iterations=24, seed=0, schedule=None, data=None, **parameters):
    """A resolved cell on the digits that trains in less than a second."""
    return resolve_cell(
        make_cell(
            data=data or Component(name="digits"),
            backbone=Component(name="small", parameters={"widths": [4], "features": 2}),
            head=Component(name=head, parameters=parameters),
            schedule=schedule or Schedule(iterations=iterations, batch_size=32, evaluations=4),
            seed=seed,
        )
    )


def train_cell(cell, suite_folder: Path, **options):
    """Train a cell in this process, on the CPU; the result and the run folder."""
    folder = RunFolder(suite_folder, cell)
    folder.create()
    with Lease.acquire(folder.path) as lease:
        result = train(cell, folder, lease, device=torch.device("cpu"), **options)
    return result, folder
