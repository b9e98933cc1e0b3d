"""Dropout: drawn from the cell's seed, anew each step, and alike after a stop."""

import itertools

import pytest
import torch

from marginbench.experiments.cell_fields import Schedule
from marginbench.experiments.cells import make_cell
from marginbench.experiments.resolution import resolve_cell
from marginbench.plugins.component import Component
from marginbench.plugins.loading import load_plugin_file
from marginbench.training.loop import Interrupted
from tests.conftest import files_of, tiny_cell, train_cell

DROPOUT = """
import torch
from PIL import Image
from torch import nn

from marginbench.backbones import Backbone, register_backbone
from marginbench.heads import Head, classifier_weight, register_head

drawn = []


class Dropping(Backbone):
    def __init__(self, pixels):
        super().__init__()
        self.out_features = 4
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(pixels, 4), nn.Dropout(0.3))

    def forward(self, images):
        if self.training:
            drawn.append(("backbone", torch.rand(()).item()))
        return self.layers(images)


@register_backbone("dropping")
def dropping(image_shape):
    return Dropping(image_shape[0] * image_shape[1] * image_shape[2])


@register_head("dropping")
class DroppingHead(Head):
    def __init__(self, in_features, num_classes):
        super().__init__(in_features, num_classes)
        self.weight = classifier_weight(num_classes, in_features)

    def loss(self, features, labels):
        drawn.append(("head", torch.rand(()).item()))
        features = nn.functional.dropout(features, 0.2, self.training)
        return nn.functional.cross_entropy(self.scores(features), labels)

    def scores(self, features):
        return features @ self.weight.T
"""


@pytest.fixture(scope="module")
def dropout_file(tmp_path_factory):
    """A plug-in with a backbone and a head "dropping", which note in ``drawn`` what they draw."""
    file = tmp_path_factory.mktemp("plugin") / "dropping.py"
    file.write_text(DROPOUT)
    load_plugin_file(file)
    return file


def dropout_cell(head="dropping", **fields):
    return resolve_cell(
        make_cell(
            data=Component(name="digits"),
            backbone=Component(name="dropping"),
            head=Component(name=head),
            schedule=Schedule(iterations=12, batch_size=32, evaluations=3),
            **fields,
        )
    )


def test_dropout_draws_from_the_cells_seed(dropout_file, tmp_path):
    runs = []
    for before in (1, 2):
        torch.manual_seed(before)
        _, folder = train_cell(dropout_cell(), tmp_path / str(before))
        runs.append(files_of(folder))
    assert runs[0] == runs[1]
    _, other = train_cell(dropout_cell(seed=1), tmp_path)
    assert files_of(other)["history.jsonl"] != runs[0]["history.jsonl"]


@pytest.mark.parametrize("stop_at", [1, 4, 7])
def test_a_run_stopped_amid_dropout_ends_like_one_that_was_not(stop_at, dropout_file, tmp_path):
    cell = dropout_cell()
    torch.manual_seed(1)
    _, undisturbed = train_cell(cell, tmp_path / "a")
    steps = itertools.count(1)
    with pytest.raises(Interrupted):
        train_cell(cell, tmp_path / "b", should_stop=lambda: next(steps) == stop_at)
    torch.manual_seed(2)
    _, resumed = train_cell(cell, tmp_path / "b")
    assert files_of(resumed) == files_of(undisturbed)


def test_every_step_drops_out_anew_and_alike_for_every_head(dropout_file, tmp_path):
    drawn = load_plugin_file(dropout_file).drawn
    by_head = {}
    for head in ("dropping", "softmax"):
        drawn.clear()
        train_cell(dropout_cell(head), tmp_path)
        by_head[head] = [number for part, number in drawn if part == "backbone"]
    assert by_head["dropping"] == by_head["softmax"]
    assert len(set(by_head["softmax"])) == 12


def test_runs_that_draw_nothing_do_not_depend_on_the_seeding_of_dropout(tmp_path, monkeypatch):
    cell = tiny_cell("l-softmax", m=2)
    _, folder = train_cell(cell, tmp_path / "a")
    monkeypatch.setattr("marginbench.training.step.seed_draws", lambda *_: None)
    _, unseeded = train_cell(cell, tmp_path / "b")
    assert files_of(folder) == files_of(unseeded)
