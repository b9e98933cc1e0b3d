"""What was trained, as files that others read, and features of images of one's own."""

import json

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from marginbench import load_trained
from marginbench.data import load_data
from marginbench.errors import UserError
from marginbench.training import exporting
from marginbench.training.embedding import embed
from marginbench.training.exporting import export_model
from tests.conftest import tiny_cell, train_cell


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The run folder of a trained cell."""
    return train_cell(tiny_cell(iterations=8), tmp_path_factory.mktemp("finished"))[1].path


@pytest.fixture(scope="module")
def outputs(finished):
    """Test images, and what torch makes of them."""
    images = load_data("digits", {}).test_images
    backbone, head = load_trained(finished)
    with torch.no_grad():
        features = backbone(images)
        return images, features, head.logits(features)


def test_onnx_computes_what_torch_does(finished, outputs, tmp_path):
    images, features, logits = outputs
    difference, checked = export_model(finished, tmp_path / "model.onnx")
    assert checked == len(images)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    # Any number of images at once.
    found = session.run(["features", "logits"], {"images": images[:33].numpy()})
    np.testing.assert_allclose(found[0], features[:33], atol=1e-4)
    np.testing.assert_allclose(found[1], logits[:33], atol=1e-4)
    assert difference < 1e-4
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_safetensors_has_every_tensor_and_the_cell(finished, tmp_path):
    difference, _ = export_model(finished, tmp_path / "model.safetensors")
    assert difference == 0
    backbone, head = load_trained(finished)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert json.loads(file.metadata()["cell"])["head"]["name"] == "softmax"
        assert torch.equal(file.get_tensor("mean_image"), backbone.mean_image)
        for name, model in (("backbone", backbone.backbone), ("head", head)):
            for key, tensor in model.state_dict().items():
                assert torch.equal(file.get_tensor(f"{name}.{key}"), tensor)


def test_a_file_that_computes_otherwise_is_not_kept(finished, tmp_path, monkeypatch):
    run = exporting._run_onnx
    monkeypatch.setattr(
        exporting, "_run_onnx", lambda *args: tuple(1.01 * part for part in run(*args))
    )
    with pytest.raises(UserError, match="is not written: its features differ from torch's"):
        export_model(finished, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_where_it_cannot_be_written_is_said(finished, tmp_path):
    with pytest.raises(UserError, match=r"allowed: a file that ends in .safetensors or .onnx"):
        export_model(finished, tmp_path / "model.pt")
    with pytest.raises(UserError, match="is no run folder"):
        export_model(tmp_path, tmp_path / "model.onnx")


def test_features_of_ones_own_images(finished, outputs, tmp_path):
    images, features, _ = outputs
    folder = tmp_path / "mine"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(images[number, 0].numpy()).save(folder / f"{number}.png")
    Image.fromarray(np.full((20, 30, 3), 9, dtype=np.uint8)).save(tmp_path / "large.jpg")
    assert embed(finished, [tmp_path / "large.jpg", folder], tmp_path / "features.npz") == 4
    with np.load(tmp_path / "features.npz") as found:
        np.testing.assert_allclose(found["features"][1:], features[:3], atol=1e-5)
        assert found["files"].tolist()[1] == str(folder / "0.png")
    for given, to, words in (
        ([tmp_path / "none.png"], "features.npz", "none.png' does not exist"),
        ([folder], "features.csv", "allowed: a file that ends in .npz"),
    ):
        with pytest.raises(UserError, match=words):
            embed(finished, given, tmp_path / to)
