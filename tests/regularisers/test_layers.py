"""Which weights are regularised: by the kind of layer, whatever it is called."""

import pytest
import torch
from torch import nn

from marginbench.backbones import build_backbone
from marginbench.errors import UserError
from marginbench.heads import build_head
from marginbench.regularisers import (
    build_regulariser,
    register_regulariser,
    regulariser_names,
)
from marginbench.regularisers.base import Regulariser
from marginbench.regularisers.layers import weight_layers


class Odd(nn.Module):
    """Layers under odd names, one of them in two places."""

    def __init__(self):
        super().__init__()
        shared = nn.Linear(4, 4)
        self.stuff = nn.ModuleDict({"first": nn.Conv2d(2, 6, 3, groups=2), "again": shared})
        self.bias = nn.Sequential(nn.BatchNorm2d(6), shared, nn.Conv1d(3, 5, 2), nn.PReLU(4))


def test_every_convolution_and_linear_layer_counts_once_and_the_classifier_last():
    head = build_head("softmax", 4, 7, bias=True)
    found = {layer.name: layer for layer in weight_layers(Odd(), head)}
    shapes = {name: tuple(layer.filters.shape) for name, layer in found.items()}
    assert shapes == {
        "stuff.first": (6, 9), "stuff.again": (4, 4), "bias.2": (5, 6), "classifier": (7, 4)
    }  # fmt: skip
    assert list(shapes)[-1] == "classifier"
    assert [layer.shape.is_classifier for layer in found.values()] == [False, False, False, True]


@pytest.mark.parametrize(
    ("head", "parameters", "shape"),
    [
        ("arcface", {}, (5, 3)),
        ("subcenter-arcface", {"subcenters": 2}, (10, 3)),
        ("pml:TripletMarginLoss", {}, None),
    ],
)
def test_the_classifier_is_what_the_head_declares(head, parameters, shape):
    layers = weight_layers(nn.Linear(2, 3), build_head(head, 3, 5, **parameters))
    found = {layer.name: tuple(layer.filters.shape) for layer in layers}
    assert found.get("classifier") == shape


def test_gradients_reach_the_weights_of_a_network_in_channels_last_order():
    backbone = build_backbone("small", (1, 8, 8), {"widths": [4], "features": 3})
    backbone.to(memory_format=torch.channels_last)
    head = build_head("softmax", 3, 5)
    layers = weight_layers(backbone, head)
    mhe = build_regulariser("mhe", [layer.shape for layer in layers])
    mhe([layer.filters for layer in layers]).backward()
    reached = {name for name, p in backbone.named_parameters() if p.grad is not None}
    assert reached == {"convolutions.0.weight", "convolutions.3.weight", "linear.weight"}
    convolution = backbone.convolutions[3].weight
    assert torch.equal(layers[1].filters[2], convolution[2].flatten())
    assert head.weight.grad.any()


def test_what_is_not_allowed_is_named():
    assert {"mhe", "comhe", "orthogonality", "srip"} <= set(regulariser_names())
    with pytest.raises(UserError, match=r"unknown regulariser 'mhee'.*did you mean 'mhe'"):
        build_regulariser("mhee", [])
    with pytest.raises(UserError, match=r"regulariser 'mhe': power = 3 is not allowed.*0 to 2"):
        build_regulariser("mhe", [], power=3)
    with pytest.raises(UserError, match=r"regulariser 'mine': .* is not a subclass of"):
        register_regulariser("mine")(nn.Linear)

    class Swallows(Regulariser):
        def __init__(self, layers, **given):
            super().__init__(layers)

    with pytest.raises(UserError, match="would swallow misspelt parameters"):
        register_regulariser("mine")(Swallows)
