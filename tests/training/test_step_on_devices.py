"""A step on devices that hold no numbers: nothing reads the device, and nothing mixes devices.

On "meta" every branch is taken that asks whether a tensor lies in the host's memory. Fake tensors
of the device "cuda" have the types that a GPU's have.
"""

import contextlib
from pathlib import Path

import pytest
import torch
from torch._subclasses import FakeTensorMode

from marginbench.experiments.grids import component
from marginbench.heads import build_head
from marginbench.plugins.loading import load_plugin_file
from marginbench.training.step import TrainingStep
from marginbench.training.step_operations import StepOperations
from tests.conftest import built_in_heads
from tests.heads.test_pml_heads import NAMES as PML_NAMES
from tests.heads.test_pml_heads import NEEDED as PML_NEEDED
from tests.training.step_cells import NEEDED, begun, head_cells, other_cells, step_cell
from tests.training.stub_cuda import as_on_a_device

WRONG = """
import torch
from torch import nn

from marginbench import Regulariser, register_regulariser
from marginbench.heads import Head, classifier_weight, register_head


class Base(Head):
    def __init__(self, in_features, num_classes):
        super().__init__(in_features, num_classes)
        self.weight = classifier_weight(num_classes, in_features)

    def scores(self, features):
        return features @ self.weight.T


@register_head("made-on-the-host")
class MadeOnTheHost(Base):
    def loss(self, features, labels):
        bias = torch.linspace(0, 1, self.num_classes)
        return nn.functional.cross_entropy(self.scores(features) + bias, labels)


@register_head("kept-on-the-host")
class KeptOnTheHost(Base):
    def __init__(self, in_features, num_classes):
        super().__init__(in_features, num_classes)
        self.bias = torch.zeros(num_classes)

    def loss(self, features, labels):
        return nn.functional.cross_entropy(self.scores(features) + self.bias, labels)


@register_head("indexed-from-the-host")
class IndexedFromTheHost(Base):
    def loss(self, features, labels):
        order = torch.arange(len(labels))
        return -self.scores(features)[order, labels].mean()


@register_head("a-number-from-the-host")
class ANumberFromTheHost(Base):
    def loss(self, features, labels):
        scale = torch.full((), 2.0).to(features.device)
        return nn.functional.cross_entropy(self.scores(features) * scale, labels)


@register_head("looks-at-the-labels")
class LooksAtTheLabels(Base):
    def loss(self, features, labels):
        if (labels == 0).any():
            return nn.functional.cross_entropy(self.scores(features), labels)
        return features.sum()


@register_regulariser("reads-a-norm")
class ReadsANorm(Regulariser):
    def penalty(self, filters, layer):
        return filters.square().sum() / filters.detach().norm().item()
"""


@pytest.fixture(autouse=True)
def meta_device(monkeypatch):
    """What the device "meta" lacks: a choice of precision, and the fused optimisers."""
    autocast = torch.autocast
    monkeypatch.setattr(
        torch,
        "autocast",
        lambda kind, *args, **options: (
            contextlib.nullcontext() if kind == "meta" else autocast(kind, *args, **options)
        ),
    )
    with torch.library._scoped_library("aten", "IMPL", "Meta") as library:
        for name in ("_fused_sgd_.tensor_lr", "_fused_adamw_.tensor_lr"):
            library.impl(name, fused_in_place)
        yield


def fused_in_place(parameters, gradients, *states, lr, **options):
    """Every tensor has to be on the parameters' device; what there is of memory stays."""
    given = [*parameters, *gradients, lr, *(one for state in states for one in state)]
    assert {one.device.type for one in given} == {"meta"}


def on_meta(cell):
    """The operations of the second step on the device "meta"."""
    experiment, progress = begun(cell, "meta")
    step = TrainingStep(experiment, progress)
    step()
    with StepOperations(lambda: step._part) as seen:
        step._compute()
    return seen


@pytest.mark.parametrize("cells", [head_cells, other_cells])
def test_no_step_reads_or_leaves_its_device(cells, monkeypatch):
    as_on_a_device(monkeypatch)
    count = 0
    for name, cell in cells():
        seen = on_meta(cell)
        assert not seen.waiting, name
        assert len(seen.operations) > 50
        count += 1
    assert count > 25


@pytest.fixture(scope="session")
def wrong(tmp_path_factory):
    file = tmp_path_factory.mktemp("plugin") / "wrong_on_devices.py"
    file.write_text(WRONG)
    load_plugin_file(file)


WRONG_FIELDS = {
    "made-on-the-host": {"head": component("made-on-the-host")},
    "kept-on-the-host": {"head": component("kept-on-the-host")},
    "looks-at-the-labels": {"head": component("looks-at-the-labels")},
    "indexed-from-the-host": {"head": component("indexed-from-the-host")},
    "a-number-from-the-host": {"head": component("a-number-from-the-host")},
    "reads-a-norm": {"regulariser": component("reads-a-norm")},
}


@pytest.mark.parametrize("name", WRONG_FIELDS)
def test_what_reads_or_leaves_its_device_is_caught(name, wrong):
    try:
        waiting = on_meta(step_cell(**WRONG_FIELDS[name])).waiting
    except (RuntimeError, NotImplementedError):
        return
    assert name in waiting[0].part


def fake_losses(name, **parameters):
    """(features, loss, logits) of a head on fake CUDA tensors, the backbone in bfloat16."""
    cell = step_cell(component(name, **parameters))
    experiment, _ = begun(cell)
    head = build_head(name, 3, 10, **cell.head.parameters)
    with FakeTensorMode(allow_non_fake_inputs=False) as mode:
        to_cuda = {"device": "cuda"}
        backbone = on_fake_cuda(experiment.backbone, mode)
        head = on_fake_cuda(head, mode)
        images = torch.zeros(12, *experiment.train_images.shape[1:], **to_cuda)
        labels = torch.zeros(12, dtype=torch.int64, **to_cuda)
        with torch.autocast("cuda", dtype=torch.bfloat16):
            features = backbone(images)
        loss = head(features, labels)
        return features, loss, head.logits(features)


def on_fake_cuda(module, mode):
    """A module whose parameters and buffers are fake CUDA tensors; plain tensors stay real."""
    for part in module.modules():
        for name, value in list(part._parameters.items()):
            if value is not None:
                fake = torch.empty(value.shape, dtype=value.dtype, device="cuda")
                part._parameters[name] = torch.nn.Parameter(fake, value.requires_grad)
        for name, value in list(part._buffers.items()):
            if value is not None:
                part._buffers[name] = torch.empty(value.shape, dtype=value.dtype, device="cuda")
    return module.train()


@pytest.mark.parametrize("name", built_in_heads())
def test_features_are_bfloat16_and_a_loss_float32(name, monkeypatch):
    as_on_a_device(monkeypatch)
    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda *_: True)
    features, loss, logits = fake_losses(name, **NEEDED.get(name, {}))
    assert features.dtype == torch.bfloat16
    assert loss.dtype == logits.dtype == torch.float32
    assert {one.device.type for one in (features, loss, logits)} == {"cuda"}
    assert logits.shape == (12, 10)


@pytest.mark.filterwarnings("ignore::UserWarning:pytorch_metric_learning")
def test_the_document_lists_the_metric_losses_that_a_graph_can_hold():
    captured = []
    for name in PML_NAMES:
        experiment, progress = begun(
            step_cell(component(f"pml:{name}", **PML_NEEDED.get(name, {})))
        )
        step = TrainingStep(experiment, progress)
        with StepOperations(lambda: "step") as seen:
            step._compute()
        captured += [] if seen.waiting else [f"`{name}`"]
    document = " ".join(Path("docs/heads.md").read_text().split())
    assert f"captured as a CUDA graph: {' and '.join(captured)}." in document
