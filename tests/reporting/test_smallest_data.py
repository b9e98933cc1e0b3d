"""A report is made of the smallest sets that a data source's check accepts, no section failing."""

from dataclasses import replace

import torch

from marginbench.data import ImageData, OneShotRun, OneShotTask, VerificationPairs
from marginbench.data.checks import check_loaded
from marginbench.experiments.cell_fields import Schedule
from marginbench.experiments.grids import component
from marginbench.experiments.resolution import resolve_cell
from marginbench.reporting.page import write_report
from marginbench.runs.results import results
from tests.conftest import tiny_cell, train_cell
from tests.reporting.trained_suite import run_of, suite_of

IMAGES = torch.randint(
    0, 256, (12, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)
NOTHING = (IMAGES[:0], torch.arange(0))
TRAINING = ImageData(IMAGES[:6], torch.arange(6) % 3, *NOTHING, ("a", "b", "c"))
PAIRS = VerificationPairs(
    name="pairs",
    images=IMAGES[:3],
    first=torch.tensor([0, 0]),
    second=torch.tensor([0, 1]),
    same=torch.tensor([True, False]),
    fold=torch.tensor([0, 1]),
    description="one pair of each kind",
    people=torch.tensor([0, 1, 2]),
    image_names=("x", "y", "z"),
    may_be_shown=True,
)
ALIKE = replace(PAIRS, images=IMAGES[:1].expand(3, -1, -1, -1), people=torch.tensor([0, 0, 1]))
RUN = OneShotRun("run", torch.tensor([0]), torch.tensor([0]), torch.tensor([0]))


SMALLEST = {
    "one test image": replace(TRAINING, test_images=IMAGES[:1], test_labels=torch.tensor([1])),
    "alike": replace(TRAINING, test_images=ALIKE.images, test_labels=torch.tensor([2, 2, 2])),
    "a pair each": replace(TRAINING, verification=(PAIRS,)),
    "pairs alike": replace(TRAINING, verification=(ALIKE, replace(PAIRS, name="o", people=None))),
    "one shot": replace(TRAINING, one_shot=OneShotTask(IMAGES[:1], (RUN,))),
}


def test_a_report_of_the_smallest_sets_has_every_section(tmp_path, monkeypatch):
    # Two steps on six images tell nothing of it.
    monkeypatch.setattr("marginbench.training.loop.divergence", lambda *_: None)
    schedule = Schedule(iterations=2, batch_size=6, evaluations=2)
    cells = []
    for number, (name, data) in enumerate(SMALLEST.items()):
        check_loaded(data)
        monkeypatch.setattr("marginbench.training.experiment.load_data", lambda *_, d=data: d)
        # Each set has a cell of its own, and two features, which are drawn.
        own = component("digits", left_out=[number, 9])
        cell = tiny_cell(schedule=schedule, data=own).model_copy(update={"setting": name})
        cells.append(resolve_cell(cell))
        assert train_cell(cells[-1], tmp_path)[0]["outcome"] == "finished"
    report = write_report(results(run_of(tmp_path, cells)), suite_of(cells), tmp_path / "report")
    assert not report.failed_sections
