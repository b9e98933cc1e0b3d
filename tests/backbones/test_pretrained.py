"""Backbones that begin with weights of a file, or with published ones."""

import huggingface_hub
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from marginbench.backbones import build_backbone
from marginbench.backbones.initial_weights import input_mean
from marginbench.errors import UserError
from marginbench.experiments.resolution import Resolver, resolve_cell
from marginbench.plugins.component import Component
from marginbench.training.pretrained import load_pretrained
from tests.backbones.made_weights import begun, cell_of, features, publish, trained

pytestmark = pytest.mark.usefixtures("places")

IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def test_published_weights_come_from_timms_cache_with_their_normalisation(places, monkeypatch):
    publish(places / "hub", "timm/resnet10t.c3_in1k", trained("resnet10t").state_dict())
    own = timm.create_model("resnet10t", pretrained=True, num_classes=0).eval()
    images = torch.rand(3, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    mean, deviation = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_DEVIATION))
    with torch.no_grad():
        expected = own((images - mean) / deviation)
        grey = own((images[:, :1].expand(-1, 3, -1, -1) - mean) / deviation)
    # What is there is not asked for in the network.
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", None)
    backbone = begun("timm:resnet10t", (3, 40, 40), pretrained=True)
    assert torch.allclose(features(backbone, images), expected, rtol=1e-4, atol=1e-5)
    of_grey = begun("timm:resnet10t", (1, 40, 40), pretrained=True)
    assert torch.allclose(features(of_grey, images[:, :1]), grey, rtol=1e-4, atol=1e-5)
    # The same file by its path is the same experiment.
    (file,) = places.glob("hub/*/snapshots/*/model.safetensors")
    assert (
        resolve_cell(cell_of("timm:resnet10t", pretrained=True)).key
        == resolve_cell(cell_of("timm:resnet10t", weights=str(file))).key
    )


def test_without_a_network_it_is_asked_once(monkeypatch):
    asked = []

    def download(repository, name, revision):
        asked.append((repository, name))
        raise huggingface_hub.utils.LocalEntryNotFoundError("no\nnetwork")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    words = r"not in timm's cache and cannot be fetched \(no network\)"
    with pytest.raises(UserError, match=words):
        resolve_cell(cell_of("timm:resnet10t", pretrained=True))
    assert asked == [("timm/resnet10t.c3_in1k", "model.safetensors")]


def test_position_embeddings_are_resized_as_timm_does_it(places):
    state = trained("test_vit").state_dict()
    save_file(state, places / "vit.safetensors")
    backbone = begun("timm:test_vit", (3, 48, 48), weights="vit.safetensors")
    embeddings = state["pos_embed"]
    grid = embeddings[:, 1:].reshape(1, 10, 10, 64).permute(0, 3, 1, 2)
    resized = F.interpolate(grid, (3, 3), mode="bicubic", antialias=True)
    found = backbone.model.pos_embed[:, 1:]
    assert torch.allclose(found, resized.permute(0, 2, 3, 1).reshape(1, 9, 64), atol=1e-5)
    assert torch.equal(backbone.model.blocks[5].mlp.fc2.weight, state["blocks.5.mlp.fc2.weight"])


@pytest.mark.parametrize("kind", ["plain", "within", "former"])
def test_torchs_own_files_are_read_too(kind, places):
    state = trained("test_resnet").state_dict()
    if kind == "within":
        state = {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}
    torch.save(state, places / "a.pt", _use_new_zipfile_serialization=kind != "former")
    backbone = begun("timm:test_resnet", weights=str(places / "a.pt"), features=5)
    wanted = trained("test_resnet").layer1[0].conv1.weight
    assert torch.equal(backbone.model.layer1[0].conv1.weight, wanted)
    assert backbone.out_features == 5


def test_what_was_exported_of_a_timm_model_is_begun_with(places):
    torch.save(trained("test_resnet").state_dict(), places / "a.pt")
    first = begun("timm:test_resnet", weights="a.pt", features=5)
    # Of random weights, normalised by the mean image alone.
    plain = build_backbone("timm:test_resnet", (3, 32, 32), {"features": 5}).eval()
    images = torch.rand(4, 3, 32, 32)
    mean = torch.rand(3, 32, 32)
    for backbone, subtracted in ((first, input_mean(first)), (plain, mean)):
        tensors = {f"backbone.{k}": v.contiguous() for k, v in backbone.state_dict().items()}
        save_file(tensors | {"mean_image": subtracted.clone()}, places / "b.safetensors")
        found = begun("timm:test_resnet", weights="b.safetensors", features=5)
        with torch.no_grad():
            expected = backbone(images - subtracted)
        torch.testing.assert_close(features(found, images), expected)


def test_the_content_is_part_of_the_key_and_the_path_is_not(places):
    torch.save(trained("test_resnet").state_dict(), places / "a.pt")
    (places / "b.pt").write_bytes((places / "a.pt").read_bytes())
    torch.save(trained("test_resnet", seed=2).state_dict(), places / "c.pt")
    keys = [
        resolve_cell(cell_of("timm:test_resnet", weights=name)).key
        for name in ("a.pt", "b.pt", str(places / "a.pt"), "c.pt")
    ]
    assert keys[0] == keys[1] == keys[2] != keys[3]
    # Files may change: another process is not told what this one found.
    resolver = Resolver()
    resolver(cell_of("timm:test_resnet", weights="a.pt"))
    assert not [text for text in resolver.found() if "a.pt" in text]
    component = resolve_cell(cell_of("timm:test_resnet", weights="a.pt")).backbone
    (places / "a.pt").write_bytes((places / "c.pt").read_bytes())
    backbone = build_backbone("timm:test_resnet", (3, 32, 32), component.parameters)
    with pytest.raises(UserError, match="the files have changed since"):
        load_pretrained(backbone, component)


def test_without_weights_nothing_is_otherwise():
    plain = resolve_cell(cell_of("timm:test_resnet"))
    assert plain.key == resolve_cell(cell_of("timm:test_resnet", pretrained=False)).key
    assert {"weights", "content", "pretrained", "frozen_normalisation"} <= set(
        plain.backbone.added_later
    )
    backbone = build_backbone("timm:test_resnet", (1, 32, 32), {})
    assert input_mean(backbone) is None
    load_pretrained(backbone, Component(name="timm:test_resnet"))
