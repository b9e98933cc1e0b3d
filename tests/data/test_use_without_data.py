"""A run folder alone, copied elsewhere, is enough to use its model: its data are needed no more."""

import shutil
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from marginbench import component, data, load_trained
from marginbench.data.files.content import _key_once
from marginbench.errors import DamagedFile, UserError
from marginbench.experiments.cell_fields import Schedule
from marginbench.plugins.loading import load_plugin_file
from marginbench.training.embedding import embed
from marginbench.training.exporting import export_model
from tests.conftest import BARS_SOURCE, tiny_cell, train_cell
from tests.data.face_files import BIN, write_people
from tests.training.test_checkpoints import saved


def digits(request):
    return component("digits")


def own_folder(request):
    request.getfixturevalue("write_folder")()
    return component("folder", name="mine", size=12)


def left_out(request):
    request.getfixturevalue("write_folder")(splits=("",), each=12, classes="abcd")
    return component("folder", name="mine", colour="grey", size=8, left_out_share=0.5)


def npz(request):
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (30, 6, 5), dtype=np.uint8), np.arange(30) % 3
    arrays = {"x_train": images, "y_train": labels, "x_test": images[:9], "y_test": labels[:9]}
    np.savez(request.getfixturevalue("root") / "mine.npz", **arrays)
    return component("npz", name="mine.npz")


def mnist(request):
    request.getfixturevalue("write_mnist")()
    return component("mnist")


def cifar100(request):
    request.getfixturevalue("write_cifar100")()
    return component("cifar100")


def faces(request):
    request.getfixturevalue("with_bin")
    write_people(request.getfixturevalue("root") / "casia", {"Ann": 6, "Bob": 5})
    return component("faces", name="casia", **BIN)


def plug_in(request):
    file = request.getfixturevalue("tmp_path") / "own_source.py"
    file.write_text(BARS_SOURCE.replace('"bars"', '"elsewhere"'))
    request.getfixturevalue("monkeypatch").setattr(
        data._registry, "_entries", dict(data._registry._entries)
    )
    load_plugin_file(file)
    return component("elsewhere")


def not_here(*given):
    raise UserError("scikit-learn is not installed")


SOURCES = [digits, own_folder, left_out, npz, mnist, cifar100, faces, plug_in]


def outputs(folder):
    """Features and logits of images that are no data set's, and the normalised input."""
    backbone, head = load_trained(folder)
    generator = torch.Generator().manual_seed(0)
    size = (5, *backbone.mean_image.shape)
    images = torch.randint(0, 256, size, dtype=torch.uint8, generator=generator)
    with torch.no_grad():
        features = backbone(images)
        return features, head.logits(features), backbone.mean_image, backbone.class_names


def without_data(folder):
    """The checkpoint as earlier versions wrote it."""
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    for entry in ("data", "digests"):
        del state[entry]
    (folder / "checkpoint.pt").write_bytes(saved(state))


@pytest.mark.parametrize("source", SOURCES)
def test_a_copied_run_folder_is_enough(source, request, root, tmp_path, monkeypatch):
    # Images drawn at random are not learnt in a few steps: no matter here.
    monkeypatch.setattr("marginbench.training.loop._divergence", lambda *given: None)
    schedule = Schedule(iterations=20, batch_size=8)
    cell = tiny_cell("arcface", data=source(request), schedule=schedule, m=0.1, s=8.0)
    result, trained = train_cell(cell, tmp_path / "runs")
    assert result["outcome"] == "finished"
    earlier = shutil.copytree(trained.path, tmp_path / "earlier")
    without_data(earlier)
    expected = outputs(earlier)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export_model(trained.path, tmp_path / "with.safetensors")

    copied = shutil.move(trained.path, tmp_path / "another place")
    for folder in (root, tmp_path / "cache", tmp_path / "runs"):
        shutil.rmtree(folder, ignore_errors=True)
    _key_once.cache_clear()
    if source is plug_in:
        del data._registry._entries["elsewhere"]
    if source is digits:
        for module in ("trained", "experiment"):
            monkeypatch.setattr(f"marginbench.training.{module}.load_data", not_here)
    found = outputs(copied)
    for one, other in zip(found[:3], expected[:3], strict=True):
        assert torch.equal(one, other)
    assert found[3] == expected[3]
    assert len(found[3]) == result["num_classes"]

    with pytest.warns(UserWarning, match="on images drawn from a seed, not on test images: "):
        assert export_model(copied, tmp_path / "without.safetensors")[1] == 256
    with_data = load_file(tmp_path / "with.safetensors")
    without = load_file(tmp_path / "without.safetensors")
    assert with_data.keys() == without.keys()
    assert all(torch.equal(without[name], tensor) for name, tensor in with_data.items())
    height, width = found[2].shape[1:]
    Image.new("RGB", (width, height), (90, 60, 30)).save(tmp_path / "one.png")
    if height == width:
        assert embed(copied, [tmp_path / "one.png"], tmp_path / "features.npz") == 1
    if source is faces:
        with pytest.warns(UserWarning, match="drawn from a seed"):
            assert export_model(copied, tmp_path / "model.onnx")[0] < 1e-4
    with pytest.raises(UserError, match=r"is of an earlier version.*the data are needed"):
        load_trained(earlier)


def test_one_more_image_changes_nothing(request, root, tmp_path):
    cell = tiny_cell(data=own_folder(request), schedule=Schedule(iterations=30, batch_size=8))
    _, trained = train_cell(cell, tmp_path / "runs")
    expected = outputs(trained.path)
    Image.new("RGB", (9, 7)).save(root / "mine" / "train" / "ant" / "more.jpg")
    _key_once.cache_clear()
    for one, other in zip(outputs(trained.path), expected, strict=True):
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state["data"]["mean_image"].add_(0.1), "'data.mean_image' was changed"),
        (lambda state: state["data"]["class_names"].reverse(), "'data.class_names' was changed"),
        (lambda state: state["data"].pop("class_names"), "'data.class_names' is missing"),
        (lambda state: state.pop("digests"), "its entry 'digests' is missing"),
    ],
)
def test_what_is_kept_of_the_data_is_checked(change, words, tmp_path):
    _, trained = train_cell(tiny_cell(iterations=8), tmp_path)
    state = torch.load(trained.checkpoint, weights_only=True)
    change(state)
    trained.checkpoint.write_bytes(saved(state))
    with pytest.raises(DamagedFile, match=words):
        load_trained(trained.path)
