"""The CUDA path; everything here needs a GPU."""

import warnings

import pytest
import torch

from marginbench.cells import Optimiser, Schedule, make_cell, resolve_cell
from marginbench.checkpoints import Progress
from marginbench.experiment import build_experiment
from marginbench.grids import component
from marginbench.step import GRAPH_VARIABLE, WARM_UP_STEPS, TrainingStep

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

HEADS = ["softmax", "hinge", "l-softmax", "a-softmax", "am-softmax", "arcface", "contrastive"]
STEPS = WARM_UP_STEPS + 20


def trained(head, precision="float32"):
    """(step, losses' sum, weights) after some steps, a change of the learning rate among them."""
    device = torch.device("cuda")
    annealed = {"lambda_base": 100.0} if head in ("l-softmax", "a-softmax") else {}
    cell = make_cell(
        data=component("digits"),
        backbone=component("small"),
        head=component(head, **annealed),
        optimiser=Optimiser(learning_rate=0.02),
        schedule=Schedule(
            iterations=STEPS,
            batch_size=64,
            milestones=[STEPS - 5],
            evaluations=1,
            augmentation="crop-flip",
        ),
        precision=precision,
    )
    experiment = build_experiment(resolve_cell(cell), device)
    progress = Progress(0, loss_sum=torch.zeros((), dtype=torch.float64, device=device))
    step = TrainingStep(experiment, progress)
    for _ in range(STEPS):
        step()
    weights = torch.cat([p.detach().flatten() for p in experiment.backbone.parameters()])
    return step, progress.loss_sum.item(), weights


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("head", HEADS)
def test_the_replayed_graph_is_the_eager_step(head, precision, monkeypatch):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*cannot be captured")
        replayed, replayed_loss, replayed_weights = trained(head, precision)
    assert replayed._graph is not None
    monkeypatch.setenv(GRAPH_VARIABLE, "0")
    eager, eager_loss, eager_weights = trained(head, precision)
    assert eager._graph is None
    assert replayed_loss == pytest.approx(eager_loss, rel=1e-4)
    torch.testing.assert_close(replayed_weights, eager_weights, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("head", HEADS)
def test_no_step_waits_for_the_device(head, monkeypatch):
    monkeypatch.setenv(GRAPH_VARIABLE, "0")
    step, _, _ = trained(head)
    step._position.zero_()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
