"""Streamed batches give what resident images give, to the bit."""

import threading

import numpy as np
import pytest
import torch

from marginbench import data as data_sources
from marginbench.data import ImageData
from marginbench.errors import UserError
from marginbench.experiments.cells import Schedule, make_cell
from marginbench.experiments.grids import component
from marginbench.experiments.resolution import resolve_cell
from marginbench.runs.environment import LIMIT_VARIABLE
from marginbench.training.experiment import build_experiment
from marginbench.training.loop import Interrupted
from marginbench.training.streaming import AHEAD, BatchStream, resident_limit
from tests.conftest import train_cell

CPU = torch.device("cpu")


@pytest.fixture
def faces(monkeypatch, tmp_path):
    """Images in a mapped file, as webface's are: 12 people, 5 images each, none for testing."""
    random = np.random.default_rng(0)
    np.save(tmp_path / "faces.npy", random.integers(0, 256, (60, 3, 12, 10), dtype=np.uint8))

    def mapped_faces() -> ImageData:
        images = torch.from_numpy(np.load(tmp_path / "faces.npy", mmap_mode="c"))
        labels = torch.arange(60) % 12
        names = tuple(map(str, range(12)))
        return ImageData(images, labels, images[:0], labels[:0], names)

    registry = data_sources._registry
    registry.names()  # the built-in ones first, so that they are not loaded into the copy only
    for attribute in ("_entries", "_origins"):
        monkeypatch.setattr(registry, attribute, dict(getattr(registry, attribute)))
    data_sources.data_source("mapped-faces")(mapped_faces)


def face_cell(augmentation, iterations=12):
    return resolve_cell(
        make_cell(
            data=component("mapped-faces"),
            backbone=component("small", widths=[4], features=8),
            head=component("arcface", s=8.0),
            schedule=Schedule(
                iterations=iterations, batch_size=16, evaluations=3, augmentation=augmentation
            ),
        )
    )


@pytest.mark.parametrize("augmentation", ["none", "crop-flip"])
def test_images_larger_than_the_limit_give_the_same_run_to_the_bit(
    augmentation, faces, monkeypatch, tmp_path
):
    cell = face_cell(augmentation)
    monkeypatch.setenv(LIMIT_VARIABLE, str(10**9))
    assert build_experiment(cell, CPU).stream is None
    train_cell(cell, tmp_path / "resident")
    size = 60 * 3 * 12 * 10
    monkeypatch.setenv(LIMIT_VARIABLE, str(size - 1))
    assert build_experiment(cell, CPU).stream is not None
    train_cell(cell, tmp_path / "streamed")
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked == 5

    with pytest.raises(Interrupted):
        train_cell(cell, tmp_path / "stopped", should_stop=stop)
    train_cell(cell, tmp_path / "stopped")
    (resident,) = (tmp_path / "resident").iterdir()
    for other in ("streamed", "stopped"):
        for name in ("result.json", "history.jsonl", "evaluation.npz"):
            found = (tmp_path / other / resident.name / name).read_bytes()
            assert found == (resident / name).read_bytes(), (other, name)


def test_every_batch_is_that_of_the_order_drawn_from_whatever_step_on():
    images = torch.arange(40, dtype=torch.uint8).reshape(40, 1, 1, 1)
    batches = torch.randint(40, (9, 5), dtype=torch.int32)
    stream = BatchStream(images, batches, CPU)
    memory = stream.batch.data_ptr()
    for iteration in [0, 1, 2, 3, 4, 5, 6, 7, 8, 3, 4, 8, 0]:
        stream.load(iteration)
        assert torch.equal(stream.batch.flatten(), batches[iteration].to(torch.uint8))
        assert stream.batch.data_ptr() == memory


def test_the_next_batches_are_read_while_a_step_is_taken(monkeypatch):
    stream = BatchStream(torch.zeros(8, 1, 1, 1, dtype=torch.uint8), torch.zeros(20, 2).int(), CPU)
    stream.load(0)
    for future in list(stream._coming):
        future.result()
    assert len(stream._coming) == AHEAD
    # These are there: a step that now begins takes them even if reading stands still.
    gate = threading.Event()
    fetch = stream._fetch
    monkeypatch.setattr(stream, "_fetch", lambda *given: gate.wait() and fetch(*given))
    for iteration in range(1, AHEAD + 1):
        stream.load(iteration)
    gate.set()


def test_what_goes_wrong_while_reading_ahead_is_raised_by_the_step(monkeypatch):
    stream = BatchStream(torch.zeros(8, 1, 1, 1, dtype=torch.uint8), torch.zeros(9, 2).int(), CPU)

    def fails(*given):
        raise OSError("the file is gone")

    monkeypatch.setattr(stream, "_fetch", fails)
    with pytest.raises(OSError, match="the file is gone"):
        stream.load(0)


@pytest.mark.parametrize("given", ["4 GB", "", "-1", "1e9", "٣", "9" * 5000, "1\n"])
def test_a_limit_that_is_no_number_is_refused(given, monkeypatch):
    monkeypatch.setenv(LIMIT_VARIABLE, given)
    with pytest.raises(UserError, match=r"MARGINBENCH_RESIDENT_BYTES = '.*allowed: integer"):
        resident_limit(CPU)
