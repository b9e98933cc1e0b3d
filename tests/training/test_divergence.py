"""Divergence: not finite, or stuck at chance for half of the run; slow learning is neither."""

from dataclasses import replace

import pytest
import torch

from marginbench.experiments.cell_fields import Schedule
from marginbench.training import loop as training
from marginbench.training.batches import draw_batches
from marginbench.training.checkpoints import Progress
from marginbench.training.divergence import divergence
from marginbench.training.experiment import build_experiment
from tests.conftest import tiny_cell

TEN = torch.arange(10).repeat(20)


def rows(errors, loss=1.0, of=100):
    step = of // len(errors)
    return [
        {"iteration": step * (i + 1), "loss": loss, "train_error": error}
        for i, error in enumerate(errors)
    ]


def test_a_loss_that_is_not_finite_is_a_divergence_at_once():
    for loss in (float("nan"), float("inf"), None):
        assert "not finite at iteration 10" in divergence(rows([0.1], loss, 10), TEN, 1000)


def test_chance_until_half_time_is_a_dead_start():
    assert divergence(rows([0.9] * 4)[:1], TEN, 100) is None
    assert "stuck at chance" in divergence(rows([0.9] * 4)[:2], TEN, 100)


def test_having_learnt_once_is_no_dead_start():
    assert divergence(rows([0.5, 0.9, 0.9, 0.9]), TEN, 100) is None


def test_chance_is_that_of_the_largest_class():
    unbalanced = torch.tensor([0] * 90 + [1] * 10)
    assert divergence(rows([0.1, 0.1]), unbalanced, 100) is not None
    assert divergence(rows([0.1, 0.02]), unbalanced, 100) is None


def test_two_balanced_classes_and_a_hundred():
    two, hundred = torch.arange(2).repeat(50), torch.arange(100).repeat(5)
    assert divergence(rows([0.48, 0.47]), two, 100) is not None
    assert divergence(rows([0.48, 0.40]), two, 100) is None
    assert divergence(rows([0.985, 0.985]), hundred, 100) is not None
    assert divergence(rows([0.985, 0.95]), hundred, 100) is None


def test_one_class_cannot_be_stuck():
    assert divergence(rows([0.0, 0.0]), torch.zeros(5, dtype=torch.int64), 100) is None


@pytest.mark.parametrize(("sampling", "diverged"), [("shuffled", True), ("balanced", False)])
def test_chance_counts_classes_as_they_are_drawn(sampling, diverged):
    # One class has half of the images: 48 % right is chance where it is drawn as often as that.
    schedule = Schedule(iterations=40, batch_size=10, evaluations=2, sampling=sampling)
    experiment = build_experiment(tiny_cell(schedule=schedule), torch.device("cpu"))
    labels = torch.arange(10).repeat_interleave(torch.tensor([90] + [10] * 9))
    unbalanced = replace(experiment.data, train_labels=labels)
    experiment = replace(
        experiment, data=unbalanced, batches=draw_batches(labels, schedule, seed=0)
    )
    found = training._divergence(experiment, Progress(20, history=rows([0.52], of=20)))
    assert (found is not None) == diverged
