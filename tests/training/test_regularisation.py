"""A regulariser in training: added to the loss, in the history, the same after a resumption."""

import json

import pandas as pd
import pytest
import torch

from marginbench.dispatch.worker import FINISHED_STATUS
from marginbench.errors import UserError
from marginbench.experiments.cell_fields import Schedule, Training
from marginbench.experiments.cells import make_cell
from marginbench.experiments.grids import component, grid
from marginbench.experiments.resolution import resolve_cell
from marginbench.regularisers.layers import weight_layers
from marginbench.runs.conditions import conditions_of, settings
from marginbench.runs.deciding_code import deciding_code
from marginbench.runs.run_folder import RunFolder
from marginbench.training.checkpoints import Progress
from marginbench.training.experiment import build_experiment
from marginbench.training.loop import Interrupted
from marginbench.training.step import TrainingStep
from tests.conftest import files_of, tiny_cell, train_cell
from tests.training.rank_processes import on_ranks
from tests.training.test_ranks import _work, network_cell, weights_of

CPU = torch.device("cpu")


def regularised(part, cell=None, **changes):
    cell = (cell or tiny_cell()).model_copy(update={"regulariser": part, **changes})
    return resolve_cell(cell)


def test_none_is_neutral_and_a_parameter_spelt_out_is_no_other_cell():
    plain = tiny_cell()
    values = plain.model_dump()
    assert values.pop("regulariser") is None
    assert make_cell(**values).key == plain.key
    mhe = regularised(component("mhe"))
    assert mhe.regulariser.parameters["power"] == 2
    assert regularised(component("mhe", power=2, weight=1)).key == mhe.key
    others = [component("mhe", power=1), component("comhe"), component("mhe", weight=2)]
    assert len({plain.key, mhe.key, *(regularised(other).key for other in others)}) == 5
    assert mhe.comparison != plain.comparison
    assert "mhe" in mhe.slug


def test_a_grid_takes_regularisers_and_none():
    cells = grid(
        data="digits",
        backbone="small",
        head="softmax",
        schedule={"iterations": 1, "batch_size": 8, "evaluations": 1},
        regulariser=[None, "srip", component("mhe", power=1)],
    )
    assert [cell.regulariser and cell.regulariser.name for cell in cells] == [None, "srip", "mhe"]
    with pytest.raises(UserError, match=r"unknown regulariser 'sripp'.*did you mean 'srip'"):
        regularised(component("sripp"))


def test_its_code_decides_the_result():
    names = deciding_code(regularised(component("mhe"))).files
    assert "marginbench/regularisers/mhe.py" in names
    assert "marginbench/regularisers/energy.py" in names
    assert "marginbench/regularisers/mhe.py" not in deciding_code(tiny_cell()).files


@pytest.mark.parametrize("execution", ["eager", "fused"])
def test_the_step_goes_down_the_sum_of_loss_and_penalty(execution):
    """Without momentum and decay a step is −η times the two gradients, added."""
    optimiser = tiny_cell().optimiser.model_copy(update={"momentum": 0.0, "weight_decay": 0.0})
    steps = {}
    for part in (None, component("mhe", weight=0.5)):
        cell = regularised(part, execution=execution, optimiser=optimiser)
        experiment = build_experiment(cell, CPU)
        before = [layer.filters.detach().clone() for layer in _layers(experiment)]
        TrainingStep(experiment, Progress(0))()
        after = [layer.filters.detach() for layer in _layers(experiment)]
        steps[part and part.name] = [a - b for a, b in zip(after, before, strict=True)]
    regularisation = build_experiment(regularised(component("mhe", weight=0.5)), CPU).regularisation
    filters = [one.clone().requires_grad_() for one in before]
    slopes = torch.autograd.grad(regularisation.regulariser(filters), filters)
    for plain, both, slope in zip(steps[None], steps["mhe"], slopes, strict=True):
        assert slope.any()
        torch.testing.assert_close(
            both - plain, -optimiser.learning_rate * slope, rtol=1e-3, atol=1e-6
        )


def _layers(experiment):
    return weight_layers(experiment.backbone, experiment.head)


@pytest.mark.parametrize(
    "part",
    [
        component("comhe", dimension=4, projections=2, renew_every=5),
        component("comhe", projection="angle-preserving", dimension=4),
        component("srip"),
    ],
    ids=["random", "angle-preserving", "srip"],
)
def test_a_resumed_run_is_the_same_to_the_bit(part, tmp_path):
    """Interrupted between two draws of the projections, and in the middle of power iteration."""
    cell = regularised(part, tiny_cell(iterations=16))
    _, undisturbed = train_cell(cell, tmp_path / "whole")
    stops = iter([False] * 6 + [True])
    with pytest.raises(Interrupted):
        train_cell(cell, tmp_path / "resumed", should_stop=lambda: next(stops))
    _, resumed = train_cell(cell, tmp_path / "resumed")
    assert files_of(undisturbed) == files_of(resumed)
    rows = [json.loads(line) for line in (resumed.path / "history.jsonl").read_text().splitlines()]
    assert all(row["regularisation"] > 0 for row in rows)


def test_a_loss_over_sampled_classes_is_refused_where_all_class_weights_are_regularised():
    schedule = Schedule(iterations=4, batch_size=4, evaluations=1)
    cell = tiny_cell(sampled_classes=0.5, schedule=schedule)
    with pytest.raises(UserError, match=r"acts on all class weights, and sampled_classes = 0.5"):
        build_experiment(regularised(component("mhe"), cell), CPU)
    hidden_only = regularised(component("mhe", classifier_weight=0), cell)
    assert build_experiment(hidden_only, CPU).regularisation is not None


def test_a_setting_without_a_name_is_called_by_its_regulariser_too():
    rows = [
        {"comparison": name, "setting": "", "data": "digits", "backbone": "small"}
        | {"regulariser": name, "label": "softmax", "seed": 0}
        for name in (None, "mhe")
    ]
    names = [name for name, _ in settings(pd.DataFrame(rows).assign(comparison=["a", "b"]))]
    assert names == ["digits, small", "digits, small, mhe"]


def test_two_processes_end_like_one(tmp_path):
    """With rotations in blocks, and a loss in chunks, whose classifier would otherwise be cut."""
    training = Training(kind="opt", block=16, block_steps=3)
    part = component("comhe", dimension=4, projections=2)
    cell = regularised(part, network_cell("softmax", chunk=3), training=training)
    _, alone = train_cell(cell, tmp_path / "one")
    assert on_ranks(_work, cell, tmp_path / "two") == [FINISHED_STATUS] * 2
    folder = RunFolder(tmp_path / "two", cell)
    ours, theirs = weights_of(folder), weights_of(alone)
    for name, tensor in theirs.items():
        difference = (ours[name] - tensor).abs().max() / tensor.abs().max().clamp(min=1e-3)
        assert difference < 1e-3, name
    for row, other in zip(folder.read_history(), alone.read_history(), strict=True):
        assert row["regularisation"] == pytest.approx(other["regularisation"], rel=1e-4)


def test_conditions_name_a_regulariser_and_a_training_only_where_there_are_any():
    plain = conditions_of(tiny_cell())
    assert not [field for field in plain if field.startswith(("regulariser", "training"))]
    other = conditions_of(regularised(component("mhe"), training=Training(kind="opt")))
    assert other["regulariser.name"] == "mhe"
    assert other["training.kind"] == "opt"
    assert not [field for field in other if field.endswith(("added_later", "former_names"))]
