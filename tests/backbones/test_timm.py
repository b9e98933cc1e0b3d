"""timm's models as backbones."""

import pytest
import torch
from torch import nn

from marginbench.backbones import build_backbone, resolve_backbone_parameters
from marginbench.errors import UserError
from marginbench.experiments.cell_fields import Schedule
from marginbench.experiments.cells import make_cell
from marginbench.experiments.grids import component
from marginbench.experiments.resolution import resolve_cell


@pytest.mark.parametrize(
    ("name", "parameters", "shape", "features"),
    [
        ("timm:resnet10t", {}, (3, 40, 40), 512),
        ("timm:resnet10t", {"stem": "small", "features": 7}, (1, 16, 16), 7),
        ("timm:mobilenetv3_small_050", {"stem": "small"}, (2, 24, 24), 1024),
        ("timm:test_vit", {"stem": "small"}, (1, 28, 28), 64),
        ("timm:test_convnext", {"stem": "small", "patch": 1}, (3, 16, 16), 64),
    ],
)
def test_models_give_one_vector_an_image(name, parameters, shape, features):
    model = build_backbone(name, shape, parameters)
    assert model.out_features == features
    assert model(torch.randn(3, *shape)).shape == (3, features)


def test_a_small_stem_keeps_the_resolution():
    model = build_backbone("timm:resnet18", (1, 28, 28), {"stem": "small"}).model
    assert model.conv1.stride == (1, 1)
    assert model.conv1.kernel_size == (3, 3)
    assert isinstance(model.maxpool, nn.Identity)
    assert model.layer1(model.maxpool(model.conv1(torch.zeros(1, 1, 28, 28)))).shape[2:] == (28, 28)


def test_weights_come_from_the_global_generator_alone():
    models = []
    for _ in range(2):
        torch.manual_seed(3)
        models.append(build_backbone("timm:resnet10t", (3, 32, 32), {"stem": "small"}))
    for first, second in zip(*[m.state_dict().values() for m in models], strict=True):
        assert torch.equal(first, second)


def test_a_cell_takes_a_timm_model_and_its_slug_is_a_file_name():
    cell = resolve_cell(
        make_cell(
            data=component("digits"),
            backbone=component("timm:resnet18", stem="small"),
            head=component("softmax"),
            schedule=Schedule(iterations=20, batch_size=8),
        )
    )
    assert cell.backbone.parameters["features"] is None
    assert ":" not in cell.slug


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("timm:resnt18", {}, ["'resnt18'", "resnet18"]),
        ("timm:", {}, ["no model ''"]),
        ("timm", {}, ["timm:MODEL"]),
        ("tim:resnet18", {}, ["'tim'", "did you mean 'timm'"]),
        ("timm:resnet18", {"depth": 3}, ["'depth'", "stem, patch, features"]),
        ("timm:resnet18", {"stem": "tiny"}, ["stem = 'tiny'", "'original' or 'small'"]),
    ],
)
def test_unknown_models_and_parameters_are_refused(name, parameters, words):
    with pytest.raises(UserError) as refusal:
        resolve_backbone_parameters(name, parameters)
    for word in words:
        assert word in str(refusal.value)


def test_a_model_that_does_not_fit_the_images_is_refused():
    with pytest.raises(UserError, match="does not take images of 1×28×28"):
        build_backbone("timm:vgg11", (1, 28, 28), {})
    with pytest.raises(UserError, match="stem = 'small' is not allowed"):
        build_backbone("timm:vgg11", (3, 32, 32), {"stem": "small"})
