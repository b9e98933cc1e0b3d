"""The parts of cells that README.md and docs/ spell out: each may be so."""

import torch

from marginbench import component, grid, regularisers
from marginbench.backbones import build_backbone
from marginbench.data import _registry as data_sources
from marginbench.plugins.parameters import resolve
from tests.test_readme import OTHERS, block_with


def test_a_head_is_built_as_it_says():
    names = {"features": torch.randn(4, 64), "labels": torch.tensor([0, 1, 2, 3])}
    exec(block_with("loss = head(features, labels)"), names)
    assert names["predicted"].shape == (4,)


def test_regularisers_have_such_parameters():
    names = {}
    exec(block_with('component("srip"'), names)
    for part in filter(None, names["regulariser"]):
        regularisers.resolve_regulariser_parameters(part.name, part.parameters)


def test_backbones_have_such_parameters():
    names = {}
    exec(block_with('conv="sphere"'), names)
    for part in names["backbone"][1:]:
        assert build_backbone(part.name, (1, 8, 8), part.parameters).out_features == 32


def test_trainings_have_such_fields():
    names = {}
    exec(block_with('orthogonal_map="householder"'), names)
    cells = grid(head="softmax", training=names["training"], **OTHERS)
    assert [cell.training.kind for cell in cells] == ["standard", "opt", "opt"]


def test_data_sources_have_such_parameters():
    for line in block_with('component("npz"').strip().splitlines():
        part = eval(line, {"component": component})
        resolve(f"data source {part.name!r}", data_sources.get(part.name), part.parameters)
