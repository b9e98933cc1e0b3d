"""Weights as if trained, and backbones that begin with them."""

import timm
import torch
from safetensors.torch import save_file

from marginbench.backbones import build_backbone
from marginbench.backbones.initial_weights import input_mean
from marginbench.experiments.cells import make_cell
from marginbench.experiments.resolution import resolve_cell
from marginbench.training.pretrained import load_pretrained

COMMIT = "0" * 40


def trained(name, seed=1):
    """A timm model with all of its weights, as if trained: normalisation has statistics too."""
    torch.manual_seed(seed)
    model = timm.create_model(name, pretrained=False)
    for parameter_name, buffer in model.named_buffers():
        if parameter_name.endswith("running_mean"):
            buffer.normal_(std=0.1)
    return model


def publish(hub, name, state):
    """What huggingface_hub keeps after a download."""
    model = hub / f"models--{name.replace('/', '--')}"
    (model / "snapshots" / COMMIT).mkdir(parents=True)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(COMMIT)
    save_file(state, model / "snapshots" / COMMIT / "model.safetensors")


def cell_of(name, **parameters):
    return make_cell(
        data={"name": "digits"},
        backbone={"name": name, "parameters": parameters},
        head={"name": "softmax"},
        schedule={"iterations": 20, "batch_size": 8},
    )


def begun(name, shape=(3, 32, 32), **parameters):
    """The backbone of a cell, with its weights, in testing mode."""
    component = resolve_cell(cell_of(name, **parameters)).backbone
    backbone = build_backbone(name, shape, component.parameters)
    load_pretrained(backbone, component)
    return backbone.eval()


def features(backbone, images):
    """What an experiment computes of images in [0, 1]."""
    with torch.no_grad():
        return backbone(images - input_mean(backbone))
