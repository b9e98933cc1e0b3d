"""What the tests share: a suite that trains in a second, and cells to build by hand."""

import os
from pathlib import Path

import hypothesis
import pytest
from filelock import FileLock

# One thread: what repeats to the bit does so with a fixed number, and the tests run side by side.
# Set before torch is loaded, which not every test needs.
os.environ["OMP_NUM_THREADS"] = "1"

# How long an example takes says nothing on a shared machine.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

LOSSES = "marginbench.losses."

TINY_SUITE = """
from marginbench import Schedule, component, grid, suite


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

# Images of a plug-in file: ready at once, where scikit-learn's digits take two seconds to import.
BARS_SOURCE = """
import torch

from marginbench.data import ImageData, data_source


@data_source("bars")
def bars() -> ImageData:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(300) % 10
    images = torch.randint(0, 160, (300, 1, 10, 10), generator=generator, dtype=torch.uint8)
    images[torch.arange(300), 0, labels] += 90
    return ImageData(
        images[:200], labels[:200], images[200:], labels[200:], tuple("0123456789")
    )
"""


@pytest.fixture(scope="session")
def tiny_suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path of a suite file: two heads, two seeds, 24 iterations. One file: names are unique."""
    file = tmp_path_factory.mktemp("suite") / "tiny_suite.py"
    file.write_text(TINY_SUITE.replace("ITERATIONS", "24"))
    return file


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory, worker_id: str):
    """Call ``make(folder)`` once for all of pytest's processes: ``made_once("name", make)``.

    Returns the folder. A call that fails is made again by the next one that asks.
    """

    def once(name, make) -> Path:
        base = tmp_path_factory.getbasetemp()
        parent = base if worker_id == "master" else base.parent
        with FileLock(parent / f"{name}.lock"):
            if not (parent / f"{name}.made").exists():
                folder = tmp_path_factory.mktemp(name)
                make(folder)
                (parent / f"{name}.made").write_text(str(folder))
        return Path((parent / f"{name}.made").read_text())

    return once


def fork_context():
    """What forks processes off this process's server, which has loaded what the digits need.

    And what the first of several processes' DistributedDataParallel imports. The server is started
    once: without those, each cell of a later test would load them itself.
    """
    from unittest.mock import patch

    from marginbench.dispatch import local

    own = local.libraries_of_parts
    with patch.object(local, "libraries_of_parts", lambda cells: [*own(cells), "torch._dynamo"]):
        return local.start_server([tiny_cell()])


@pytest.fixture(scope="session")
def fork_server():
    """The server that this process's workers are forked from, started."""
    fork_context()


@pytest.fixture
def scratch_registry(monkeypatch):
    """A registry of heads that a test may fill, and that is as before afterwards."""
    from marginbench import heads
    from marginbench.plugins import loading

    heads.head_names()  # the plug-ins first, so that they are not loaded into the copy only
    for attribute in ("_entries", "_origins"):
        copy = dict(getattr(heads._registry, attribute))
        monkeypatch.setattr(heads._registry, attribute, copy)
    monkeypatch.setattr(loading, "_plugin_files", dict(loading._plugin_files))


def built_in_heads() -> list[str]:
    """The names of the heads in losses/: other tests of the process may have added their own."""
    from marginbench.heads import head_class, head_names

    return [name for name in head_names() if head_class(name).__module__.startswith(LOSSES)]


def tiny_cell(head="softmax", *, iterations=24, seed=0, schedule=None, data=None, **parameters):
    """A resolved cell on the digits that trains in less than a second."""
    from marginbench.experiments.cell_fields import Schedule
    from marginbench.experiments.cells import make_cell
    from marginbench.experiments.resolution import resolve_cell
    from marginbench.plugins.component import Component

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
    import torch

    from marginbench.runs.lease import Lease
    from marginbench.runs.run_folder import RunFolder
    from marginbench.training.loop import train

    folder = RunFolder(suite_folder, cell)
    folder.create()
    with Lease.acquire(folder.path) as lease:
        result = train(cell, folder, lease, device=torch.device("cpu"), **options)
    return result, folder


def files_of(folder):
    """What must not depend on how a run went: everything but checkpoints, times and leases."""
    import numpy as np

    return {
        name: (folder.path / name).read_bytes() for name in ("history.jsonl", "result.json")
    } | {"evaluation": {k: v.tobytes() for k, v in np.load(folder.evaluation).items()}}
