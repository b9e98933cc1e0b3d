"""Parts of a plug-in file that do not work are found before any cell, named with file and line."""

import re

import pytest
import torch

from marginbench import backbones, component, data, regularisers
from marginbench.backbones import build_backbone
from marginbench.data import check_data, load_data
from marginbench.errors import UserError
from marginbench.experiments.resolution import resolve_cell
from marginbench.plugins.loading import load_plugin_file
from marginbench.training import model_check
from tests.conftest import tiny_cell

HEADER = """
import numpy as np
import torch
from torch import nn

from marginbench import (
    Backbone,
    Head,
    ImageData,
    Regulariser,
    data_source,
    register_backbone,
    register_head,
    register_regulariser,
)
"""
BACKBONE = """
class Network(KIND):
    def __init__(self, size):
        super().__init__()
        self.linear = nn.Linear(size, 6)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, images):
        self.calls += 1
        noise = nn.functional.dropout(images, 0.5, training=True)
        return FEATURES

@register_backbone("made")
def made(image_shape, *, width: int = 6):
    return RETURNED
"""
NETWORK = "Network(64)"
RIGHT = "self.linear(noise.flatten(1))"
SHAPES = {tiny_cell().data.model_dump_json(): ((1, 8, 8), 10)}


@pytest.fixture
def plug_in(tmp_path, monkeypatch, scratch_registry):
    """Writes a plug-in file and loads it; what it registers is forgotten afterwards."""
    for room in (backbones, data, regularisers):
        room._registry.names()
        for attribute in ("_entries", "_origins"):
            copy = dict(getattr(room._registry, attribute))
            monkeypatch.setattr(room._registry, attribute, copy)

    def load(text):
        file = tmp_path / "own.py"
        file.write_text(HEADER + text)
        load_plugin_file(file)
        return file

    return load


def own_backbone(returned=NETWORK, features=RIGHT, kind="nn.Module"):
    text = BACKBONE.replace("KIND", kind).replace("FEATURES", features)
    return text.replace("RETURNED", returned)


def cell_of(field, **given):
    value = component("made", **given)
    return resolve_cell(tiny_cell().model_copy(update={field: value}))


def test_a_plain_module_is_a_backbone(plug_in):
    plug_in(own_backbone())
    before = torch.get_rng_state()
    backbone = build_backbone("made", (1, 8, 8), {})
    assert backbone.out_features == 6
    assert backbone.added_layers == ()
    # Finding D draws no random numbers of the run's, and changes no buffer.
    torch.set_rng_state(before)
    torch.nn.Linear(64, 6)
    drawn = torch.get_rng_state()
    torch.set_rng_state(before)
    assert build_backbone("made", (1, 8, 8), {}).module.calls == 0
    assert torch.equal(torch.get_rng_state(), drawn)
    model_check.check_models([cell_of("backbone")], SHAPES)
    assert torch.equal(torch.get_rng_state(), drawn)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (own_backbone(features="self.lost(images)"), "return self.lost", "has no attribute 'lost'"),
        (own_backbone("Network(63)"), "return self.linear", "mat1 and mat2 shapes cannot be mult"),
        (own_backbone(features="images", returned=NETWORK), None, r"a tensor \(2, 1, 8, 8\) of"),
        (own_backbone("7"), None, r"it returns a int; allowed: a torch.nn.Module"),
        (own_backbone("1 / 0"), "return 1 / 0", "ZeroDivisionError: division by zero"),
        (own_backbone(features="(images, images)"), None, "it makes <class 'tuple'> of images"),
        (own_backbone(features="images.detach().flatten(1)", kind="Backbone"), None, None),
    ],
)
def test_a_broken_backbone_is_named_with_its_line(plug_in, text, line, words):
    file = plug_in(text)
    if words is None:  # without a parameter: nothing is trained of it, which some may want
        model_check.check_models([cell_of("backbone")], SHAPES)
        return
    with pytest.raises(UserError, match=words) as refusal:
        model_check.check_models([cell_of("backbone")], SHAPES)
    message = str(refusal.value)
    assert message.startswith(f"backbone 'made' ({file})")
    assert "\n" not in message
    if line is not None:
        lines = file.read_text().splitlines()
        number = int(re.search(r", line (\d+): ", message)[1])
        assert line in lines[number - 1]


HEAD = """
@register_head("made")
class Made(Head):
    def __init__(self, in_features: int, num_classes: int):
        super().__init__(in_features, num_classes)
        self.weight = nn.Parameter(torch.randn(num_classes, in_features))

    def loss(self, features, labels):
        return LOSS

    def scores(self, features):
        return features @ self.weight.T
"""
REGULARISER = """
@register_regulariser("made")
class Made(Regulariser):
    def penalty(self, filters, layer):
        return filters.nothing()
"""


@pytest.mark.parametrize(
    ("field", "text", "words"),
    [
        ("head", HEAD.replace("LOSS", "self.scores(features)[labels, 99].mean()"), "index 99 is"),
        ("head", HEAD.replace("LOSS", "self.scores(features).mean(0)"), r"tensor \(10,\); expect"),
        ("head", HEAD.replace("LOSS", "torch.zeros(())"), "does not require grad"),
        ("head", HEAD.replace("LOSS", "None"), "its loss is a NoneType; expected: a scalar"),
        ("regulariser", REGULARISER, "has no attribute 'nothing'"),
    ],
)
def test_a_broken_head_or_regulariser_is_named(plug_in, field, text, words):
    file = plug_in(text)
    with pytest.raises(UserError, match=words) as refusal:
        model_check.check_models([cell_of(field)], SHAPES)
    assert str(refusal.value).startswith(f"{field} 'made' ({file}), line ")


def test_what_fails_in_some_cells_only_is_said_and_the_rest_is_left(plug_in):
    file = plug_in(own_backbone("7"))
    (message,) = model_check.check_models([tiny_cell(), cell_of("backbone")], SHAPES)
    assert message.startswith(f"backbone 'made' ({file})")
    assert model_check.check_models([tiny_cell()], SHAPES) == []


def test_each_model_is_tried_once_and_a_built_in_one_never(plug_in, monkeypatch):
    plug_in(own_backbone())
    tried = []
    monkeypatch.setattr(model_check, "_try", lambda cell, *rest, **more: tried.append(cell))
    cells = [cell_of("backbone", width=width) for width in (6, 6, 7)]
    seeds = [cell.model_copy(update={"seed": seed}) for cell in cells for seed in range(3)]
    model_check.check_models([*seeds, tiny_cell(), tiny_cell("arcface")], SHAPES)
    assert [cell.backbone.parameters["width"] for cell in tried] == [6, 7]


SOURCE = """
@data_source("made")
def made():
    images, labels = np.zeros((20, 1, 8, 8), dtype=np.uint8), np.arange(20, dtype=np.int32) % 2
    return RETURNED
"""
ARRAYS = 'ImageData(images, labels, images[:4], labels[:4], ["a", "b"])'


def test_arrays_of_an_own_source_are_taken_as_tensors(plug_in):
    plug_in(SOURCE.replace("RETURNED", ARRAYS))
    found = load_data("made", {})
    assert found.train_images.dtype == torch.uint8
    assert found.test_labels.tolist() == [0, 1, 0, 1]
    assert found.class_names == ("a", "b")
    cell = cell_of("data")
    assert check_data([cell.data]) == {cell.data.model_dump_json(): ((1, 8, 8), 2)}


DATASET = "torch.utils.data.TensorDataset(torch.zeros(4, 1, 8, 8), torch.zeros(4))"


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (DATASET, "it returns a TensorDataset; allowed: marginbench.ImageData"),
        (f"({DATASET}, {DATASET})", "it returns a tuple; allowed: marginbench.ImageData"),
        ("None", "it returns a NoneType"),
        (
            ARRAYS.replace("images,", f"{DATASET},", 1),
            "train_images of its ImageData is a TensorDa",
        ),
        (ARRAYS.replace("labels[:4]", "[0, 1]"), "test_labels of its ImageData is a list"),
        ("images.nothing", r"own\.py\), line \d+: AttributeError: .* no attribute 'nothing'"),
        (ARRAYS.replace("images,", "images / 2,", 1), "training images must be uint8"),
    ],
)
def test_what_an_own_source_returns_otherwise_is_named(plug_in, returned, words):
    plug_in(SOURCE.replace("RETURNED", returned))
    with pytest.raises(UserError, match=words) as refusal:
        check_data([component("made")])
    assert str(refusal.value).startswith("data source 'made'")
