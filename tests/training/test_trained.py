"""A finished cell's model, loaded from its run folder."""

import json
import shutil
import warnings

import pytest
import torch

from marginbench import load_trained
from marginbench.data import load_data
from marginbench.errors import DamagedFile, UserError
from marginbench.experiments.resolution import resolve_cell
from marginbench.plugins.component import Component
from tests.conftest import tiny_cell, train_cell


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A trained cell: its result and its run folder."""
    cell = tiny_cell("l-softmax", m=2)
    return train_cell(cell, tmp_path_factory.mktemp("finished"))


@pytest.fixture
def folder(finished, tmp_path):
    """A copy that a test may damage."""
    path = finished[1].path
    return shutil.copytree(path, tmp_path / path.name)


def test_the_model_has_the_test_error_of_the_result(finished):
    result, folder = finished
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        backbone, head = load_trained(folder.path)
    assert not any(module.training for model in (backbone, head) for module in model.modules())
    data = load_data("digits", {})
    before = data.test_images.clone()
    with torch.no_grad():
        features = backbone(data.test_images)
        predicted = head.logits(features).argmax(dim=1)
    assert features.shape == (len(data.test_images), backbone.out_features)
    assert features.dtype == torch.float32
    assert float((predicted != data.test_labels).double().mean()) == result["test_error"]
    assert torch.equal(data.test_images, before)


def test_other_images_than_those_trained_on_are_refused(finished):
    backbone, _ = load_trained(str(finished[1].path))
    for images in (torch.zeros(2, 1, 8, 8), torch.zeros(2, 3, 8, 8, dtype=torch.uint8)):
        with pytest.raises(UserError, match=r"are not allowed; allowed: torch.uint8 \(N, 1, 8, 8"):
            backbone(images)


def test_half_precision_and_compilation_are_no_need_of_a_trained_model(folder):
    cell = tiny_cell("l-softmax", m=2)
    cell = resolve_cell(cell.model_copy(update={"precision": "bf16", "execution": "compiled"}))
    (folder / "cell.json").write_text(cell.to_json())
    result = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps(result | {"key": cell.key}))
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    torch.save(state | {"key": cell.key}, folder / "checkpoint.pt")
    backbone, _ = load_trained(folder)
    assert backbone(torch.zeros(2, 1, 8, 8, dtype=torch.uint8)).dtype == torch.float32


def test_a_folder_that_is_not_finished_is_refused(folder, tmp_path):
    with pytest.raises(UserError, match=r"is no run folder: it has no cell\.json"):
        load_trained(tmp_path)
    result = json.loads((folder / "result.json").read_text())
    diverged = result | {"outcome": "diverged", "reason": "the loss is not finite"}
    (folder / "result.json").write_text(json.dumps(diverged))
    with pytest.raises(UserError, match="has diverged: the loss is not finite"):
        load_trained(folder)
    (folder / "result.json").unlink()
    with pytest.raises(UserError, match=r"is not finished: it has no result\.json"):
        load_trained(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"key": "0" * 12}, "belongs to the cell 000000000000"),
        ({"iteration": 20}, "'iteration' was changed after it was written"),
        ({"head": {}}, "its 'head' was changed"),
        ({"content": "other"}, "was trained on other images"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(folder, change, words):
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    torch.save(state | change, folder / "checkpoint.pt")
    with pytest.raises(UserError, match=words):
        load_trained(folder)


def test_a_damaged_file_is_named(folder):
    torch_file = folder / "checkpoint.pt"
    torch_file.write_bytes(torch_file.read_bytes()[:2000])
    with pytest.raises(DamagedFile, match=r"checkpoint\.pt is damaged"):
        load_trained(folder)
    torch_file.unlink()
    with pytest.raises(DamagedFile, match=r"checkpoint\.pt is damaged: it is missing"):
        load_trained(folder)
    (folder / "cell.json").write_text("{")
    with pytest.raises(DamagedFile, match=r"cell\.json is damaged"):
        load_trained(folder)


def test_a_checkpoint_by_other_code_is_loaded_with_a_warning(folder):
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    torch.save(state | {"code": "other"}, folder / "checkpoint.pt")
    with pytest.warns(UserWarning, match="was made by other code"):
        load_trained(folder)


def test_a_head_that_is_not_known_is_named(folder):
    cell = tiny_cell()
    unknown = cell.model_copy(update={"head": Component(name="not-loaded")})
    (folder / "cell.json").write_text(unknown.to_json())
    result = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps(result | {"key": unknown.key}))
    with pytest.raises(UserError, match=r"unknown head 'not-loaded'.* --plugin FILE\.py"):
        load_trained(folder)
    code = {"files": {"marginbench/heads/base.py": "0" * 16, "my_head.py": "1" * 16}}
    (folder / "environment.json").write_text(json.dumps({"code": code}))
    with pytest.raises(UserError, match=r"unknown head 'not-loaded'.* --plugin my_head\.py"):
        load_trained(folder)
