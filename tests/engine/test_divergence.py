"""Divergence: not finite, or stuck at chance for half of the run; slow learning is neither."""

import torch

from marginbench.divergence import divergence

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
