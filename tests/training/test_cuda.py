"""The CUDA path; everything here needs a GPU."""

import warnings

import pytest
import torch

from marginbench.experiments.cell_fields import Optimiser, Schedule
from marginbench.experiments.cells import make_cell
from marginbench.experiments.grids import component
from marginbench.experiments.resolution import resolve_cell
from marginbench.plugins.loading import load_plugin_file
from marginbench.runs.environment import GRAPH_VARIABLE
from marginbench.training.checkpoints import Progress, load_checkpoint, save_checkpoint
from marginbench.training.experiment import build_experiment
from marginbench.training.step import TrainingStep
from marginbench.training.step_graph import WARM_UP_STEPS

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

DEVICE = torch.device("cuda")
HEADS = ["softmax", "hinge", "l-softmax", "a-softmax", "am-softmax", "arcface", "contrastive"]
STEPS = WARM_UP_STEPS + 20

DROPOUT = """
from torch import nn

from marginbench.backbones import Backbone, register_backbone
from marginbench.heads import Head, classifier_weight, register_head


class Dropping(Backbone):
    def __init__(self, pixels):
        super().__init__()
        self.out_features = 16
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(pixels, 16), nn.Dropout(0.3))

    def forward(self, images):
        return self.layers(images)


@register_backbone("dropping-on-cuda")
def dropping(image_shape):
    return Dropping(image_shape[0] * image_shape[1] * image_shape[2])


@register_head("waits-for-the-device")
class Waiting(Head):
    def __init__(self, in_features, num_classes):
        super().__init__(in_features, num_classes)
        self.weight = classifier_weight(num_classes, in_features)

    def loss(self, features, labels):
        loss = nn.functional.cross_entropy(self.scores(features), labels)
        assert loss.item() >= 0
        return loss

    def scores(self, features):
        return features @ self.weight.T
"""


@pytest.fixture(scope="module", autouse=True)
def dropout(tmp_path_factory):
    file = tmp_path_factory.mktemp("plugin") / "dropping_on_cuda.py"
    file.write_text(DROPOUT)
    load_plugin_file(file)


def cell_of(head, precision="float32", backbone="small"):
    annealed = {"lambda_base": 100.0} if head in ("l-softmax", "a-softmax") else {}
    return resolve_cell(
        make_cell(
            data=component("digits"),
            backbone=component(backbone),
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
    )


def begun(cell):
    """(experiment, progress) at iteration 0."""
    loss_sum = torch.zeros((), dtype=torch.float64, device=DEVICE)
    return build_experiment(cell, DEVICE), Progress(0, loss_sum=loss_sum)


def advance(experiment, progress, until):
    """Take the steps up to an iteration; the step and the weights."""
    experiment.backbone.train()
    experiment.head.train()
    step = TrainingStep(experiment, progress)
    while progress.iteration < until:
        step()
    weights = torch.cat([p.detach().flatten() for p in experiment.backbone.parameters()])
    return step, weights


def trained(head, precision="float32", backbone="small"):
    """(step, losses' sum, weights) after some steps, a change of the learning rate among them."""
    experiment, progress = begun(cell_of(head, precision, backbone))
    step, weights = advance(experiment, progress, STEPS)
    return step, progress.loss_sum.item(), weights


@pytest.mark.parametrize(
    ("head", "precision", "backbone"),
    [(head, precision, "small") for head in HEADS for precision in ("float32", "bf16")]
    + [("softmax", "float32", "dropping-on-cuda")],
)
def test_the_replayed_graph_is_the_eager_step(head, precision, backbone, monkeypatch):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*only slower")
        replayed, replayed_loss, replayed_weights = trained(head, precision, backbone)
    assert replayed.graph.is_captured
    monkeypatch.setenv(GRAPH_VARIABLE, "0")
    eager, eager_loss, eager_weights = trained(head, precision, backbone)
    assert eager.graph is None
    assert replayed_loss == pytest.approx(eager_loss, rel=1e-4)
    torch.testing.assert_close(replayed_weights, eager_weights, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "optimiser",
    [
        Optimiser(kind="adamw", learning_rate=0.002, head_rate=2.0, clip_norm=1.0),
        Optimiser(kind="rmsprop", learning_rate=0.001, momentum=0.9),
        Optimiser(kind="rmsprop", learning_rate=0.001, momentum=0.0),
    ],
)
def test_every_optimiser_is_captured_and_waits_for_no_device(optimiser, monkeypatch):
    found = {}
    for graph in ("1", "0"):
        monkeypatch.setenv(GRAPH_VARIABLE, graph)
        experiment, progress = begun(cell_of("softmax").model_copy(update={"optimiser": optimiser}))
        step, weights = advance(experiment, progress, STEPS)
        assert (step.graph is not None and step.graph.is_captured) == (graph == "1")
        found[graph] = weights
    torch.testing.assert_close(found["1"], found["0"], rtol=1e-3, atol=1e-4)
    step._position.zero_()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("stop_at", [3, WARM_UP_STEPS + 4])
@pytest.mark.parametrize("backbone", ["small", "dropping-on-cuda"])
def test_a_checkpoint_goes_on_in_a_captured_graph(backbone, stop_at, tmp_path):
    cell = cell_of("l-softmax", backbone=backbone)
    _, undisturbed_loss, undisturbed_weights = trained("l-softmax", backbone=backbone)
    path = tmp_path / "checkpoint.pt"
    experiment, progress = begun(cell)
    advance(experiment, progress, stop_at)
    save_checkpoint(path, cell.key, experiment, progress)
    resumed, _ = begun(cell)
    progress = load_checkpoint(path, cell.key, resumed)
    step, weights = advance(resumed, progress, STEPS)
    assert step.graph.is_captured
    assert progress.loss_sum.item() == pytest.approx(undisturbed_loss, rel=1e-4)
    torch.testing.assert_close(weights, undisturbed_weights, rtol=1e-3, atol=1e-4)


def test_dropout_goes_on_after_a_capture_that_failed(monkeypatch):
    with pytest.warns(UserWarning, match="waits-for-the-device. waits for the device"):
        step, loss, weights = trained("waits-for-the-device", backbone="dropping-on-cuda")
    assert not step.graph.is_captured
    monkeypatch.setenv(GRAPH_VARIABLE, "0")
    _, eager_loss, eager_weights = trained("waits-for-the-device", backbone="dropping-on-cuda")
    assert loss == pytest.approx(eager_loss, rel=1e-4)
    torch.testing.assert_close(weights, eager_weights, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("head", HEADS)
def test_no_step_waits_for_the_device(head, precision, monkeypatch):
    monkeypatch.setenv(GRAPH_VARIABLE, "0")
    step, loss, _ = trained(head, precision)
    assert 0 < loss < float("inf")
    step._position.zero_()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
