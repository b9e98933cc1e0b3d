"""What docs/data.md says of pretrained weights, done as it says."""

import re
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from marginbench.experiments import suites
from marginbench.experiments.resolution import resolve_cell
from marginbench.training.checkpoints import Progress
from marginbench.training.experiment import build_experiment
from marginbench.training.step import TrainingStep
from tests.backbones.made_weights import publish, trained

DOCUMENT = Path(__file__).parents[2] / "docs" / "data.md"


def test_the_suite_of_the_document_begins_with_published_weights(places, monkeypatch):
    suites._registry.names()
    for attribute in ("_entries", "_origins"):
        monkeypatch.setattr(suites._registry, attribute, dict(getattr(suites._registry, attribute)))
    (code,) = [
        code
        for code in re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), flags=re.DOTALL)
        if "pretrained=True" in code
    ]
    random = np.random.default_rng(0)
    for kind in "abcd":
        (places / "birds" / kind).mkdir(parents=True)
        for index in range(8):
            pixels = random.integers(0, 255, (20, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(places / "birds" / kind / f"{index}.png")
    # A smaller network of the same kind.
    publish(places / "hub", "timm/test_resnet.r160_in1k", trained("test_resnet").state_dict())
    code = code.replace("timm:resnet18", "timm:test_resnet").replace("size=64", "size=32")
    exec(code, {"__name__": "document"})
    cells = suites.find_suite("fine-tuned").function([0])
    assert {cell.head.name for cell in cells} == {"softmax", "arcface"}
    experiment = build_experiment(resolve_cell(cells[0]), torch.device("cpu"))
    backbone = experiment.backbone
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    assert torch.equal(before["model.conv1.0.weight"], trained("test_resnet").conv1[0].weight)
    assert backbone.out_features == 128
    experiment.training_mode()
    TrainingStep(experiment, Progress(0))()
    moved = {
        name: float((value - before[name]).abs().median())
        for name, value in backbone.state_dict().items()
    }
    assert moved["model.bn1.running_mean"] == moved["model.bn1.weight"] == 0
    # AdamW's first step is as long as the rate, whatever the gradient.
    assert moved["linear.weight"] / moved["model.conv1.0.weight"] > 5
