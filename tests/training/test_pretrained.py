"""Training that begins with weights of a file, from its first step to the exported model."""

import itertools

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from marginbench import load_trained
from marginbench.backbones.initial_weights import normalisation_layers
from marginbench.data import load_data
from marginbench.errors import UserError
from marginbench.experiments.cell_fields import Optimiser
from marginbench.experiments.cells import make_cell
from marginbench.experiments.resolution import resolve_cell
from marginbench.training.experiment import build_experiment
from marginbench.training.exporting import export_model
from marginbench.training.loop import Interrupted
from tests.conftest import files_of, tiny_cell, train_cell

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A cell trained on some of the digits, as a file."""
    folder = tmp_path_factory.mktemp("first")
    cell = tiny_cell(data={"name": "digits", "parameters": {"left_out": [7, 8, 9]}}, iterations=8)
    export_model(train_cell(resolve_cell(cell), folder)[1].path, folder / "first.safetensors")
    return folder / "first.safetensors"


def begun(file, iterations=8, **optimiser):
    """A cell on all digits that begins with that file's weights, its normalisation frozen."""
    return resolve_cell(
        make_cell(
            data={"name": "digits"},
            backbone={
                "name": "small",
                "parameters": {
                    **{"widths": [4], "features": 2, "weights": str(file)},
                    "frozen_normalisation": True,
                },
            },
            head={"name": "softmax"},
            optimiser=Optimiser(**optimiser),
            schedule={"iterations": iterations, "batch_size": 32, "evaluations": 4},
        )
    )


def test_the_images_are_normalised_as_the_weights_want_it(exported):
    tensors = load_file(exported)
    experiment = build_experiment(begun(exported), CPU)
    assert torch.equal(experiment.mean_image, tensors["mean_image"])
    random = build_experiment(tiny_cell(), CPU)
    assert not torch.equal(random.mean_image, tensors["mean_image"])
    for name, value in experiment.backbone.state_dict().items():
        wanted = "mean_image" if name == "input_mean" else f"backbone.{name}"
        assert torch.equal(value, tensors[wanted])
    # The head's generator is its own, whatever the backbone begins with.
    assert torch.equal(experiment.head.weight, random.head.weight)


def test_a_frozen_normalisation_stays_as_it_was_and_a_resumed_run_is_an_undisturbed_one(
    exported, tmp_path
):
    tensors = load_file(exported)
    cell = begun(exported, backbone_rate=0.1, head_rate=2.0)
    _, undisturbed = train_cell(cell, tmp_path / "a")
    steps = itertools.count(1)
    with pytest.raises(Interrupted):
        train_cell(cell, tmp_path / "b", should_stop=lambda: next(steps) == 3)
    _, resumed = train_cell(cell, tmp_path / "b")
    assert files_of(resumed) == files_of(undisturbed)
    state = torch.load(resumed.checkpoint, weights_only=True)["backbone"]
    experiment = build_experiment(cell, CPU)
    layers = set(normalisation_layers(experiment.backbone))
    names = [name for name, module in experiment.backbone.named_modules() if module in layers]
    assert len(names) == 3
    for name, value in state.items():
        is_frozen = name.rpartition(".")[0] in names or name == "input_mean"
        wanted = "mean_image" if name == "input_mean" else f"backbone.{name}"
        assert torch.equal(value, tensors[wanted]) == is_frozen, name


def test_a_backbones_own_rate_moves_it_alone(exported):
    assert begun(exported).key == begun(exported, backbone_rate=1.0).key
    assert begun(exported).key != begun(exported, backbone_rate=0.5).key
    experiment = build_experiment(begun(exported, backbone_rate=0.5), CPU)
    multiples = {
        id(parameter): group["multiple"]
        for group in experiment.optimiser.param_groups
        for parameter in group["params"]
    }
    trained = [p for p in experiment.backbone.parameters() if p.requires_grad]
    assert {multiples.pop(id(parameter)) for parameter in trained} == {0.5}
    assert set(multiples.values()) == {1.0}


def test_what_was_trained_needs_the_first_weights_no_more(exported, tmp_path):
    file = tmp_path / "mine.safetensors"
    file.write_bytes(exported.read_bytes())
    result, folder = train_cell(begun(file, iterations=24), tmp_path)
    file.unlink()
    images = load_data("digits", {}).test_images
    backbone, head = load_trained(folder.path)
    assert torch.equal(backbone.mean_image, load_file(exported)["mean_image"])
    with torch.no_grad():
        wrong = head.logits(backbone(images)).argmax(dim=1) != load_data("digits", {}).test_labels
    assert float(wrong.double().mean()) == result["test_error"]
    # Exported, it can be begun with again.
    export_model(folder.path, tmp_path / "second.safetensors")
    build_experiment(begun(tmp_path / "second.safetensors"), CPU)
    difference, _ = export_model(folder.path, tmp_path / "model.onnx")
    assert difference < 1e-4


def test_weights_of_another_backbone_are_refused(exported, tmp_path):
    cell = begun(exported)
    for parameters, data, words in (
        ({"features": 3}, "digits", "linear.weight is 2×64, and this backbone's 3×64"),
        ({"widths": [4, 4]}, "digits", "of another model: no convolutions.7.weight, .* more in it"),
        ({"features": 2}, "rgb", "made for images of 1×8×8, and this cell's are 3×8×8"),
    ):
        values = {"widths": [4], "features": 2, "weights": str(exported), **parameters}
        update = {"backbone": {"name": "small", "parameters": values}}
        if data == "rgb":
            arrays = {f"x_{part}": np.zeros((4, 8, 8, 3), np.uint8) for part in ("train", "test")}
            arrays |= {f"y_{part}": np.array([0, 1, 0, 1]) for part in ("train", "test")}
            np.savez(tmp_path / "rgb.npz", **arrays)
            update["data"] = {"name": "npz", "parameters": {"name": "rgb.npz"}}
        other = make_cell(**{**cell.model_dump(), **update})
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MARGINBENCH_DATA", str(tmp_path))
            patch.setenv("MARGINBENCH_CACHE", str(tmp_path / "cache"))
            with pytest.raises(UserError, match=words):
                build_experiment(resolve_cell(other), CPU)
