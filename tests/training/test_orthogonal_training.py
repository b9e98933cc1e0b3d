"""Orthogonal over-parameterised training: neurons that stay, rotations that are orthogonal."""

import copy
import json
import math

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import orthogonal

from marginbench.errors import UserError
from marginbench.evaluation.layer_energies import layer_energies
from marginbench.experiments.cell_fields import Training
from marginbench.experiments.cells import cell_from_json, make_cell
from marginbench.experiments.resolution import resolve_cell
from marginbench.training.checkpoints import Progress
from marginbench.training.experiment import build_experiment
from marginbench.training.loop import Interrupted
from marginbench.training.orthogonal_training import (
    OrthogonalTraining,
    Rotation,
    fold_rotations,
    rotation_parameters,
)
from marginbench.training.step import TrainingStep
from marginbench.training.trained import load_trained
from tests.conftest import files_of, tiny_cell, train_cell

CPU = torch.device("cpu")
MAPS = ("cayley", "householder", "matrix_exp")


def opt_cell(cell=None, **settings):
    training = Training(kind="opt", **settings)
    return resolve_cell((cell or tiny_cell()).model_copy(update={"training": training}))


def turned(module, settings=None, noise=0.3):
    """The module with rotations that are no identity any more."""
    rotations = OrthogonalTraining(module, settings or Training(kind="opt"), seed=0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for one in (m for m in module.modules() if isinstance(m, Rotation)):
            for parameter in one.parameters():
                shift = torch.randn(parameter.shape, generator=generator)
                # The diagonal holds signs, of which nothing is learnt.
                parameter += noise * shift.to(parameter).fill_diagonal_(0)
    return rotations


@pytest.mark.parametrize("kind", MAPS)
def test_each_neuron_is_turned_by_one_orthogonal_matrix(kind):
    layer = nn.Conv2d(2, 5, 3).double()
    neurons = layer.weight.detach().clone().flatten(1)
    model = nn.Sequential(layer)
    torch.testing.assert_close(_weight_at_start(kind, neurons), neurons, rtol=1e-6, atol=1e-7)
    rotations = turned(model, Training(kind="opt", orthogonal_map=kind))
    rotation = layer.parametrizations["weight"][0]
    matrix = rotation.matrix.detach().double()
    assert rotations.error() < 1e-6
    torch.testing.assert_close(
        matrix.T @ matrix, torch.eye(18, dtype=torch.float64), rtol=0, atol=1e-5
    )
    assert (matrix - torch.eye(18)).norm() > 0.5
    expected = torch.stack([matrix @ neuron for neuron in neurons])
    torch.testing.assert_close(
        layer.weight.detach().flatten(1).double(), expected, rtol=1e-5, atol=1e-6
    )


def _weight_at_start(kind, neurons):
    layer = nn.Linear(neurons.shape[1], len(neurons)).double()
    with torch.no_grad():
        layer.weight.copy_(neurons)
    OrthogonalTraining(nn.Sequential(layer), Training(kind="opt", orthogonal_map=kind), seed=0)
    return layer.weight.detach()


def test_a_block_turns_the_chosen_entries_only_and_is_then_fixed():
    layer = nn.Linear(10, 6)
    neurons = layer.weight.detach().clone()
    turned(nn.Sequential(layer), Training(kind="opt", block=4))
    rotation = layer.parametrizations["weight"][0]
    assert rotation.matrix.shape == (4, 4)
    torch.testing.assert_close(layer.weight[:, 4:], neurons[:, 4:])
    before = layer.weight.detach().clone()
    rotation.redraw(layer.parametrizations["weight"].original, torch.Generator().manual_seed(3))
    torch.testing.assert_close(layer.weight, before)
    torch.testing.assert_close(rotation.matrix, torch.eye(4))
    assert rotation.chosen.unique().numel() == 4
    assert rotation.chosen.tolist() != [0, 1, 2, 3]


@pytest.mark.parametrize("block", [0, 7])
def test_the_folded_network_is_plain_and_has_equal_outputs(block):
    experiment = build_experiment(opt_cell(block=block), CPU)
    step = TrainingStep(experiment, Progress(0))
    for _ in range(3):
        step()
    backbone = experiment.backbone.eval()
    images = experiment.test_images[:20]
    before = experiment.features(images)
    plain = build_experiment(tiny_cell(), CPU).backbone.state_dict()
    fold_rotations(backbone)
    torch.testing.assert_close(experiment.features(images), before, rtol=0, atol=0)
    assert {n: t.shape for n, t in backbone.state_dict().items()} == {
        name: tensor.shape for name, tensor in plain.items()
    }
    assert {type(m) for m in backbone.modules() if isinstance(m, nn.Conv2d)} == {nn.Conv2d}
    assert all(parameter.requires_grad for parameter in backbone.parameters())
    again = copy.deepcopy(backbone)
    fold_rotations(backbone)
    assert torch.equal(again.linear.weight, backbone.linear.weight)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A cell with blocks of 20 entries, which change every 5 steps: result and folder."""
    cell = opt_cell(block=20, block_steps=5)
    return train_cell(cell, tmp_path_factory.mktemp("opt"))


def test_the_energy_stays_and_the_error_is_in_the_history(run):
    """A rotation changes no angle: every hidden layer keeps the energy that it began with."""
    _, folder = run
    rows = [json.loads(line) for line in (folder.path / "history.jsonl").read_text().splitlines()]
    start = build_experiment(folder.cell, CPU)
    expected = layer_energies(start.backbone, start.head)
    hidden = [name for name in expected if name != "energy/classifier"]
    assert len(hidden) == 3
    for row in rows:
        assert row["orthogonality_error"] < 1e-5
        for name in hidden:
            assert row[name] == pytest.approx(expected[name], rel=1e-3)
    assert rows[-1]["energy/classifier"] != pytest.approx(expected["energy/classifier"], rel=1e-3)
    assert rows[-1]["loss"] < rows[0]["loss"]


def test_what_is_loaded_is_a_plain_network_with_the_error_of_the_result(run):
    result, folder = run
    backbone, head = load_trained(folder.path)
    assert not any(isinstance(module, Rotation) for module in backbone.modules())
    data = build_experiment(folder.cell, CPU).data
    with torch.no_grad():
        predicted = head.logits(backbone(data.test_images)).argmax(dim=1)
    assert float((predicted != data.test_labels).float().mean()) == pytest.approx(
        result["test_error"]
    )


def test_a_resumed_run_is_the_same_to_the_bit(run, tmp_path):
    """Interrupted between two choices of the blocks."""
    _, undisturbed = run
    stops = iter([False] * 7 + [True])
    with pytest.raises(Interrupted):
        train_cell(undisturbed.cell, tmp_path, should_stop=lambda: next(stops))
    _, resumed = train_cell(undisturbed.cell, tmp_path)
    assert files_of(resumed) == files_of(undisturbed)


def test_rotations_do_not_decay_and_neurons_are_not_trained():
    experiment = build_experiment(opt_cell(), CPU)
    turning = rotation_parameters(experiment.backbone)
    groups = experiment.optimiser.param_groups
    decays = {id(p): group["weight_decay"] > 0 for group in groups for p in group["params"]}
    assert len(turning) == 3
    assert not any(decays[one] for one in turning)
    assert decays[id(experiment.head.weight)]
    neurons = {
        id(tensor)
        for name, tensor in experiment.backbone.named_parameters()
        if name.endswith("parametrizations.weight.original") and not tensor.requires_grad
    }
    assert len(neurons) == 3
    assert not neurons & decays.keys()


def test_what_the_optimiser_keeps_begins_anew_with_the_blocks():
    experiment = build_experiment(opt_cell(block=5, block_steps=2), CPU)
    step = TrainingStep(experiment, Progress(0))
    step()
    rotations = [
        one
        for m in experiment.backbone.modules()
        if isinstance(m, Rotation)
        for one in m.parameters()
    ]
    kept = [experiment.optimiser.state[one] for one in rotations]
    assert all(tensor.any() for state in kept for tensor in state.values())
    experiment.rotations.begin_step(1, experiment.optimiser)
    assert all(tensor.any() for state in kept for tensor in state.values())
    experiment.rotations.begin_step(2, experiment.optimiser)
    assert not any(tensor.any() for state in kept for tensor in state.values())


def test_standard_training_is_neutral_and_a_text_stands_for_its_kind():
    plain = tiny_cell()
    values = plain.model_dump()
    assert make_cell(**{**values, "training": "standard"}).key == plain.key
    assert values.pop("training")["kind"] == "standard"
    assert make_cell(**values).key == plain.key
    opt = make_cell(**{**values, "training": "opt"})
    assert opt.training == Training(kind="opt")
    assert opt.key not in (plain.key, opt_cell(block=7).key)
    assert opt.key == opt_cell().key == cell_from_json(opt.to_json()).key
    assert "opt" in opt.slug
    with pytest.raises(UserError, match="with kind = 'standard' none of the other fields"):
        make_cell(**{**values, "training": {"block": 7}})
    with pytest.raises(UserError, match=r"training.kind = 'half' is not allowed; allowed: 'sta"):
        make_cell(**{**values, "training": "half"})


def test_the_cayley_map_is_torchs_to_the_bit_and_needs_no_look_of_the_host():
    rotation = Rotation(6, "cayley", 0)
    theirs = orthogonal(torch.nn.Linear(6, 6, bias=False), "weight", orthogonal_map="cayley")
    theirs.parametrizations.weight[0].base = torch.eye(6)
    free = torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
    found = []
    for module in (rotation._turn, theirs):
        own = module.parametrizations.weight.original
        own.data.copy_(free)
        matrix = module.weight
        (matrix * torch.arange(36.0).view(6, 6)).sum().backward()
        found.append((matrix.detach(), own.grad))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    assert rotation._turn.state_dict().keys() == theirs.state_dict().keys()


def test_a_rotation_that_is_not_finite_is_no_small_error():
    experiment = build_experiment(opt_cell(), CPU)
    assert experiment.rotations.error() < 1e-5
    _, rotation = experiment.rotations._layers[0]
    next(rotation.parameters()).data.fill_(torch.nan)
    assert math.isnan(experiment.rotations.error())
