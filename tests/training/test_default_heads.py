"""What a user gets by default trains: every head of losses/ with the values that it has itself."""

import pytest
import torch

from marginbench.experiments.cell_fields import Optimiser, Schedule
from marginbench.experiments.grids import component, grid
from marginbench.experiments.resolution import resolve_cell
from marginbench.training.checkpoints import Progress
from marginbench.training.experiment import build_experiment
from marginbench.training.step import TrainingStep
from tests.conftest import built_in_heads

MOST_WRONG = 0.03
"""Of the training images. Softmax has none wrong, L-Softmax without annealing 9 %."""


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def training_error(head):
    """Of the ten digits after the quickstart's 200 iterations, as a fraction."""
    (cell,) = grid(
        data="digits",
        backbone="small",
        head=head,
        optimiser=Optimiser(learning_rate=0.02),
        schedule=Schedule(iterations=200, batch_size=64, milestones=(133, 166)),
    )
    experiment = build_experiment(resolve_cell(cell), torch.device("cpu"))
    experiment.training_mode()
    step = TrainingStep(experiment, Progress(0))
    for _ in range(cell.schedule.iterations):
        step()
    experiment.backbone.eval()
    experiment.head.eval()
    with torch.inference_mode():
        found = experiment.head.logits(experiment.features(experiment.train_images)).argmax(dim=1)
    return float((found != experiment.train_labels).double().mean())


@pytest.mark.parametrize("name", built_in_heads())
def test_a_head_with_its_defaults_fits_the_digits(name):
    assert training_error(name) <= MOST_WRONG


def test_l_softmax_without_annealing_does_not():
    assert training_error(component("l-softmax", lambda_base=0.0)) > MOST_WRONG
