"""Two processes on one cell, over gloo: the run of one process, up to the order of sums."""

import pytest
import torch
from torch import nn

from marginbench.dispatch.worker import (
    FAILED_STATUS,
    FINISHED_STATUS,
    STOPPED_STATUS,
    TrainingTask,
    work,
)
from marginbench.errors import UserError
from marginbench.experiments.cell_fields import Schedule
from marginbench.experiments.cells import make_cell
from marginbench.experiments.resolution import resolve_cell
from marginbench.plugins.component import Component
from marginbench.plugins.loading import load_plugin_file
from marginbench.runs.run_folder import RunFolder
from marginbench.training.checkpoints import Progress
from marginbench.training.experiment import build_experiment
from marginbench.training.ranks import Ranks, joined, local_device
from marginbench.training.step import TrainingStep
from tests.conftest import tiny_cell, train_cell
from tests.training.rank_processes import on_ranks


def _work(ranks, address, cell, suite_folder):
    return work(
        TrainingTask(
            cell=cell,
            suite_folder=suite_folder,
            device="cpu",
            rank=ranks.rank,
            ranks=ranks.size,
            address=address,
        )
    )


def network_cell(head, **parameters):
    """A network of Table 1 with batch normalisation, crops and flips, on 8×8 digits."""
    return resolve_cell(
        make_cell(
            data=Component(name="digits"),
            backbone=Component(name="mnist", parameters={"width": 0.0625, "features": 8}),
            head=Component(name=head, parameters=parameters),
            schedule=Schedule(iterations=6, batch_size=16, evaluations=2, augmentation="crop-flip"),
        )
    )


def weights_of(folder):
    state = torch.load(folder.checkpoint, weights_only=True)
    return {
        f"{part}.{name}": tensor.double()
        for part in ("backbone", "head")
        for name, tensor in state[part].items()
    }


@pytest.mark.parametrize(
    ("head", "parameters"),
    [
        ("softmax", {}),
        ("contrastive", {}),
        ("l-softmax", {"m": 2, "lambda_base": 10.0, "lambda_gamma": 0.1}),
        ("adaface", {"s": 8.0}),
        ("curricularface", {"s": 8.0}),
    ],
)
def test_two_processes_end_like_one(head, parameters, tmp_path):
    cell = network_cell(head, **parameters)
    alone, alone_folder = train_cell(cell, tmp_path / "one")
    statuses = on_ranks(_work, cell, tmp_path / "two")
    assert statuses == [FINISHED_STATUS, FINISHED_STATUS]
    folder = RunFolder(tmp_path / "two", cell)
    result = folder.read_result()
    assert result["device"] == "2 × cpu"
    ours, theirs = weights_of(folder), weights_of(alone_folder)
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        # Float32 sums in another order, through six steps at a learning rate of 0.1.
        difference = (ours[name] - tensor).abs().max() / tensor.abs().max().clamp(min=1e-3)
        assert difference < 1e-3, name
    for row, other in zip(folder.read_history(), alone_folder.read_history(), strict=True):
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert row["test_error"] == pytest.approx(other["test_error"], abs=0.01)
    assert result["iteration"] == alone["iteration"]


def _stopped_after(ranks, address, cell, suite_folder, steps):
    from marginbench.training import loop as training

    counted = iter(range(1, 10**6))
    own_train = training.train

    def stopping(*arguments, **options):
        # Only one rank is asked to stop; all must.
        asked = (lambda: next(counted) == steps) if ranks.rank == 1 else (lambda: False)
        return own_train(*arguments, **{**options, "should_stop": asked})

    training.train = stopping
    return _work(ranks, address, cell, suite_folder)


def test_a_stop_asked_of_one_rank_stops_all_and_the_run_ends_as_if_undisturbed(tmp_path):
    cell = tiny_cell()
    assert on_ranks(_work, cell, tmp_path / "a") == [FINISHED_STATUS] * 2
    stopped = on_ranks(_stopped_after, cell, tmp_path / "b", 8)
    assert stopped == [STOPPED_STATUS] * 2
    assert on_ranks(_work, cell, tmp_path / "b") == [FINISHED_STATUS] * 2
    first, second = (RunFolder(tmp_path / name, cell) for name in "ab")
    for name in ("history.jsonl", "result.json"):
        assert (first.path / name).read_bytes() == (second.path / name).read_bytes()


DRAWING = """
import torch
from torch import nn

from marginbench.backbones import Backbone, register_backbone
from marginbench.heads import Head, classifier_weight, register_head

drawn = {"backbone": [], "head": []}


class Drawing(Backbone):
    def __init__(self, pixels):
        super().__init__()
        self.out_features = 2
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(pixels, 2))

    def forward(self, images):
        drawn["backbone"].append(torch.rand(()).item())
        return self.layers(images)


@register_backbone("drawing")
def drawing(image_shape):
    return Drawing(image_shape[0] * image_shape[1] * image_shape[2])


@register_head("drawing")
class DrawingHead(Head):
    def __init__(self, in_features, num_classes):
        super().__init__(in_features, num_classes)
        self.weight = classifier_weight(num_classes, in_features)

    def loss(self, features, labels):
        drawn["head"].append(torch.rand(()).item())
        return nn.functional.cross_entropy(self.scores(features), labels)

    def scores(self, features):
        return features @ self.weight.T
"""


def _drawn(ranks, address, plugin):
    drawn = load_plugin_file(plugin).drawn
    cell = resolve_cell(
        make_cell(
            data=Component(name="digits"),
            backbone=Component(name="drawing"),
            head=Component(name="drawing"),
            schedule=Schedule(iterations=3, batch_size=16, evaluations=1),
        )
    )
    device = torch.device("cpu")
    torch.manual_seed(ranks.rank)
    with joined(ranks, device, address):
        experiment = build_experiment(cell, device, ranks)
        experiment.connect_ranks()
        step = TrainingStep(experiment, Progress(0))
        for _ in range(3):
            step()
    return drawn


def test_ranks_draw_for_their_own_images_and_alike_in_the_head(tmp_path):
    plugin = tmp_path / "drawing.py"
    plugin.write_text(DRAWING)
    first, second = on_ranks(_drawn, plugin)
    assert first["head"] == second["head"]
    assert not set(first["backbone"]) & set(second["backbone"])
    assert len({*first["backbone"], *second["backbone"], *first["head"]}) == 9


def test_what_cannot_be_is_refused_on_all_ranks(tmp_path):
    schedule = Schedule(iterations=4, batch_size=15, evaluations=2)
    cell = tiny_cell(schedule=schedule)
    assert on_ranks(_work, cell, tmp_path) == [FAILED_STATUS] * 2
    failure = RunFolder(tmp_path, cell).read_failure()
    assert "schedule.batch_size = 15 is not allowed with 2 processes" in failure["error"]


def test_one_process_needs_no_connection():
    ranks = Ranks()
    features = torch.ones(2, 3, requires_grad=True)
    assert ranks.all_features(features) is features
    assert ranks.share("value") == "value"
    assert ranks.gather(4) == [4]
    assert ranks.any_of(True) is True
    module = nn.Linear(2, 2)
    assert ranks.wrap(module, torch.device("cpu")) is module


def test_the_parts_of_a_batch_are_its_columns():
    batches = torch.arange(12).view(2, 6)
    assert Ranks(1, 3).own_part(batches).tolist() == [[2, 3], [8, 9]]
    with pytest.raises(UserError, match="batch_size = 6 is not allowed with 4"):
        Ranks(0, 4).own_part(batches)


def test_devices_of_ranks(monkeypatch):
    assert local_device("cpu", 1, 2) == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert [local_device("auto", rank, 4) for rank in (0, 3)] == ["cuda:0", "cuda:3"]
    for rank in range(5):
        with pytest.raises(UserError, match=r"5 processes on .* need a GPU each, and torch sees 4"):
            local_device("cuda", rank, 5)
