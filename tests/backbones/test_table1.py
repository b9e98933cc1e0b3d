"""The networks of the paper's Table 1, against numbers worked out by hand from the table."""

import pytest
import torch
from torch import nn

from marginbench.backbones import build_backbone
from marginbench.backbones.model_size import model_size
from marginbench.backbones.table1 import NETWORKS
from marginbench.errors import UserError

# Copied from the printed table, block by block: (kernel, filters, how many), "pool", features.
PRINTED = {
    "mnist-fig2": [(5, 32, 2), "pool", (5, 64, 2), "pool", (5, 128, 2), "pool", 2],
    "mnist": [(3, 64, 1), (3, 64, 3), "pool", (3, 64, 3), "pool", (3, 64, 3), "pool", 256],
    "cifar10": [(3, 64, 1), (3, 64, 4), "pool", (3, 96, 4), "pool", (3, 128, 4), "pool", 256],
    "cifar100": [(3, 96, 1), (3, 96, 4), "pool", (3, 192, 4), "pool", (3, 384, 4), "pool", 512],
    "lfw": [
        *[(3, 64, 1), (3, 64, 4), "pool", (3, 256, 4), "pool", (3, 256, 4), "pool", (3, 256, 4)],
        512,
    ],
}
ACTIVATED = {"mnist", "cifar10", "cifar100"}


def on_meta(name, **parameters):
    shape = NETWORKS[name].image_shape
    with torch.device("meta"):
        return build_backbone(name, shape, parameters), shape


def worked_out(name):
    """Layer shapes, parameters and MACs, by arithmetic alone."""
    channels, height, width = NETWORKS[name].image_shape
    shapes, parameters, macs = [], 0, 0
    for position, block in enumerate(PRINTED[name]):
        if block == "pool":
            height, width = (height + 1) // 2, (width + 1) // 2
            shapes.append((channels, height, width))
        elif isinstance(block, int):
            inputs = channels * height * width
            parameters += inputs * block + block
            parameters += 3 * block if name in ACTIVATED else 0  # γ, β and PReLU's slope
            macs += inputs * block
            shapes.append((block,))
        else:
            kernel, filters, depth = block
            if name == "lfw" and position == 0:
                height, width = (height + 1) // 2, (width + 1) // 2
            for _ in range(depth):
                weights = channels * kernel * kernel * filters
                parameters += weights + 3 * filters
                macs += weights * height * width
                channels = filters
                shapes.append((channels, height, width))
    return shapes, parameters, macs


@pytest.mark.parametrize("name", PRINTED)
def test_layers_parameters_and_macs_are_those_of_the_table(name):
    model, image_shape = on_meta(name)
    size = model_size(model, image_shape)
    shapes, parameters, macs = worked_out(name)
    assert [layer.output_shape for layer in size.layers] == shapes
    assert size.parameters == parameters
    assert size.macs == macs


@pytest.mark.parametrize(
    ("name", "millions"), [("mnist", 114), ("cifar10", 266.5), ("cifar100", 940)]
)
def test_macs_agree_with_the_known_figures(name, millions):
    assert model_size(*on_meta(name)).macs / 1e6 == pytest.approx(millions, rel=5e-3)


def test_pooling_rounds_up_from_28_to_4():
    model, image_shape = on_meta("mnist")
    pooled = [s.output_shape for s in model_size(model, image_shape).layers if "pool" in str(s)]
    assert pooled == [(64, 14, 14), (64, 7, 7), (64, 4, 4)]


@pytest.mark.parametrize("name", PRINTED)
def test_every_convolution_is_normalised_and_activated_and_keeps_the_size(name):
    model, _ = on_meta(name)
    layers = [m for m in model.convolutions if not isinstance(m, nn.MaxPool2d)]
    for convolution, normalisation, activation in zip(*[iter(layers)] * 3, strict=True):
        assert isinstance(normalisation, nn.BatchNorm2d)
        assert activation.num_parameters == convolution.out_channels
        assert convolution.padding == tuple(k // 2 for k in convolution.kernel_size)
    assert isinstance(model.activation, nn.PReLU) == (name in ACTIVATED)
    assert model.convolutions[0].stride == ((2, 2) if name == "lfw" else (1, 1))


def test_weights_are_he_initialised():
    torch.manual_seed(0)
    model = build_backbone("mnist-fig2", (1, 28, 28), {})
    weight = model.convolutions[3].weight
    assert weight.std().item() == pytest.approx((2 / (32 * 25)) ** 0.5, rel=0.03)


def test_features_of_figure_2_take_either_sign():
    torch.manual_seed(0)
    features = build_backbone("mnist-fig2", (1, 28, 28), {})(torch.randn(32, 1, 28, 28))
    assert features.shape == (32, 2)
    assert (features.min() < 0) & (features.max() > 0)


def test_width_scales_the_filters_and_a_list_names_them():
    by_width, shape = on_meta("cifar10", width=0.5)
    by_list, _ = on_meta("cifar10", filters=[32, 32, 48, 64])
    assert str(by_width) == str(by_list)
    figure_7, _ = on_meta("cifar10", filters=[32, 32, 64, 128])
    assert [m.out_channels for m in figure_7.modules() if isinstance(m, nn.Conv2d)] == (
        [32] * 5 + [64] * 4 + [128] * 4
    )
    assert model_size(figure_7, shape).macs < model_size(*on_meta("cifar10")).macs


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"filters": [32, 64]}, ["filters = [32, 64]", "4 numbers, of Conv0 to Conv3"]),
        ({"filters": [8, 8, 8, 8], "width": 0.5}, ["width = 0.5", "one of the two"]),
        ({"width": 0}, ["width = 0", "number > 0"]),
        ({"filters": [8, 8, 8, 0]}, ["filters", "integer ≥ 1"]),
    ],
)
def test_impossible_widths_are_refused(parameters, words):
    with pytest.raises(UserError) as refusal:
        build_backbone("cifar10", (3, 32, 32), parameters)
    for word in ["'cifar10'", *words]:
        assert word in str(refusal.value)
