"""The learning rate that falls when the loss gets no better."""

import itertools

import pytest
import torch

from marginbench.errors import UserError
from marginbench.experiments.cell_fields import Optimiser, Schedule
from marginbench.experiments.cells import make_cell
from marginbench.training.loop import Interrupted
from marginbench.training.optimisers import count_rate_cuts, learning_rate
from tests.conftest import files_of, tiny_cell, train_cell

PATIENT = Schedule(iterations=10, batch_size=1, evaluations=10, plateau_patience=2)


@pytest.mark.parametrize(
    ("losses", "cuts"),
    [
        ([], 0),
        ([5.0], 0),
        ([5, 4, 3, 2, 1], 0),
        ([5, 5], 0),
        ([5, 5, 5], 1),
        ([5, 6, 4.99], 1),
        ([5, 6, 4.9], 0),
        ([5, 5, 5, 5], 1),
        ([5, 5, 5, 5, 5], 2),
        ([5] * 50, 2),
        ([5, 5, 5, 4, 4, 4], 2),
        ([-1.0, -2.0, -3.0, -4.0], 0),
        ([-4.0, -4.0, -4.0], 1),
    ],
)
def test_the_cuts_follow_the_losses(losses, cuts):
    assert count_rate_cuts(losses, PATIENT) == cuts


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_the_first_cut_is_pytorchs(patience):
    losses = [3.0, 2.0, 1.995, 1.99, 1.5, 1.6, 1.5, 1.55, 1.49, 1.49, 1.49]
    optimiser = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    # PyTorch cuts when more than "patience" evaluations were no better, this project at that many.
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimiser, patience=patience - 1, threshold=0.01, min_lr=0.01
    )
    schedule = PATIENT.model_copy(update={"plateau_patience": patience})
    for seen in range(1, len(losses) + 1):
        theirs.step(losses[seen - 1])
        ours = learning_rate(
            seen, Optimiser(learning_rate=1.0), schedule, count_rate_cuts(losses[:seen], schedule)
        )
        assert ours == pytest.approx(optimiser.param_groups[0]["lr"])


def plateau_cell():
    schedule = Schedule(
        iterations=40, batch_size=32, evaluations=20, plateau_patience=1, plateau_threshold=0.3
    )
    return tiny_cell(schedule=schedule)


def test_the_rate_that_is_recorded_is_the_one_trained_at(tmp_path):
    _, folder = train_cell(plateau_cell(), tmp_path)
    rows = folder.read_history()
    rates = [row["learning_rate"] for row in rows]
    assert rates[0] == 0.1
    assert rates[-1] == pytest.approx(0.001)
    for number, row in enumerate(rows):
        cuts = count_rate_cuts([past["loss"] for past in rows[:number]], plateau_cell().schedule)
        assert row["learning_rate"] == pytest.approx(0.1 * 0.1**cuts)
    state = torch.load(folder.checkpoint, weights_only=True)
    assert float(state["optimiser"]["param_groups"][0]["lr"]) == pytest.approx(0.001)


@pytest.mark.parametrize("stop_at", [3, 4, 5, 9, 21])
def test_a_resumed_run_cuts_where_an_undisturbed_one_does(stop_at, tmp_path):
    cell = plateau_cell()
    _, undisturbed = train_cell(cell, tmp_path / "a")
    steps = itertools.count(1)
    with pytest.raises(Interrupted):
        train_cell(cell, tmp_path / "b", should_stop=lambda: next(steps) == stop_at)
    _, resumed = train_cell(cell, tmp_path / "b")
    assert files_of(resumed) == files_of(undisturbed)


def test_milestones_and_a_plateau_do_not_go_together():
    with pytest.raises(UserError, match=r"plateau_patience = 2 .* milestones"):
        make_cell(
            data={"name": "digits"},
            backbone={"name": "small"},
            head={"name": "softmax"},
            schedule={
                "iterations": 10,
                "batch_size": 4,
                "evaluations": 2,
                "milestones": [5],
                "plateau_patience": 2,
            },
        )
