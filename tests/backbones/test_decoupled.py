"""SphereConv and the decoupled operators against their formulas, patch by patch, in float64."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from marginbench.backbones import build_backbone, resolve_backbone_parameters
from marginbench.backbones.decoupled import DecoupledConv2d, Operator
from marginbench.errors import UserError
from marginbench.experiments.grids import component
from marginbench.experiments.resolution import resolve_cell
from tests.conftest import tiny_cell

K = 0.4
ANGULAR = {
    "linear": lambda t: -2 / math.pi * t + 1,
    "cosine": math.cos,
    # NeurIPS 2017, Eq. 4, as it is printed.
    "sigmoid": lambda t: (
        (1 + math.exp(-math.pi / (2 * K)))
        / (1 - math.exp(-math.pi / (2 * K)))
        * (1 - math.exp(t / K - math.pi / (2 * K)))
        / (1 + math.exp(t / K - math.pi / (2 * K)))
    ),
    "square-cosine": lambda t: math.copysign(1, math.cos(t)) * math.cos(t) ** 2,
}
MAGNITUDE = {
    "ball": lambda x, rho, beta: min(x, rho) / rho,
    "tanh": lambda x, rho, beta: math.tanh(x / rho),
    "linear": lambda x, rho, beta: x,
    "log": lambda x, rho, beta: math.log(1 + x),
    "segmented": lambda x, rho, beta: x if x <= rho else beta * x + rho - beta * rho,
    "mixed": lambda x, rho, beta: x + beta * math.log(1 + x),
}
WEIGHT = {
    "none": lambda w, rho: 1.0,
    "linear": lambda w, rho: w,
    "tanh": lambda w, rho: math.tanh(w / rho),
}


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def convolution(operator, kernel=3, stride=1):
    made = DecoupledConv2d(operator, 2, 3, kernel, stride, kernel // 2).double()
    with torch.no_grad():
        made.weight.copy_(drawn(*made.weight.shape, seed=1))
    return made


def by_unfolding(images, weight, operator, stride):
    """Each patch laid flat, each filter, one pair at a time, in Python's own numbers."""
    kernel = weight.shape[-1]
    patches = F.unfold(images, kernel, padding=kernel // 2, stride=stride)
    rho = operator.radius * math.sqrt(weight[0].numel())
    output = torch.empty(len(images), len(weight), patches.shape[2], dtype=torch.float64)
    for n, columns in enumerate(patches):
        for p, patch in enumerate(columns.T.tolist()):
            for f, filter in enumerate(weight.flatten(1).tolist()):
                norm, length = math.hypot(*patch), math.hypot(*filter)
                inner = sum(a * b for a, b in zip(patch, filter, strict=True))
                theta = math.acos(inner / norm / length) if norm and length else math.pi / 2
                value = ANGULAR[operator.angular](theta)
                if operator.conv == "decoupled":
                    value *= MAGNITUDE[operator.magnitude](norm, rho, operator.slope)
                    value *= WEIGHT[operator.weight_norm](length, rho)
                output[n, f, p] = value
    size = -(-images.shape[2] // stride), -(-images.shape[3] // stride)
    return output.view(len(images), len(weight), *size)


OPERATORS = [
    *(Operator("sphere", angular, K) for angular in ANGULAR),
    *(Operator("decoupled", magnitude=magnitude, radius=0.9) for magnitude in MAGNITUDE),
    *(Operator("decoupled", "linear", weight_norm=weight) for weight in WEIGHT),
]


def name_of(operator):
    return "-".join(str(value) for value in vars(operator).values())


@pytest.mark.parametrize("operator", OPERATORS, ids=name_of)
def test_it_is_the_formula_patch_by_patch(operator):
    images = drawn(2, 2, 4, 5)
    images[0, :, :2, :3] = 0
    for kernel, stride in ((3, 1), (3, 2), (1, 1)):
        one = convolution(operator, kernel, stride)
        expected = by_unfolding(images, one.weight.detach(), operator, stride)
        torch.testing.assert_close(one(images).detach(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "operator",
    [*OPERATORS, *(replace(o, learn_radius=True) for o in OPERATORS[4:6])],
    ids=name_of,
)
def test_the_gradient_is_that_of_the_values(operator):
    one = convolution(operator)
    images = drawn(1, 2, 3, 3, seed=3).requires_grad_()
    parameters = list(one.parameters())
    assert len(parameters) == 1 + operator.learn_radius
    assert torch.autograd.gradcheck(lambda *_: one(images), [images, *parameters])


@pytest.mark.parametrize("operator", OPERATORS, ids=name_of)
def test_zeros_and_filters_along_the_patch_have_finite_gradients(operator):
    one = convolution(operator, kernel=1).float()
    with torch.no_grad():
        one.weight[0] = 0
        one.weight[1:] = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])[..., None, None]
    images = torch.zeros(1, 2, 1, 3)
    images[0, 0] = torch.tensor([[0.0, 2.0, -2.0]])
    images.requires_grad_()
    output = one(images)
    output.sum().backward()
    assert not output[0, :, 0, 0].any()
    assert not output[0, 0].any()
    for gradient in (images.grad, one.weight.grad):
        assert gradient.isfinite().all()


def test_the_output_of_a_sphere_convolution_knows_no_length():
    one, images = convolution(Operator("sphere", "linear")), drawn(1, 2, 4, 4)
    before = one(images)
    with torch.no_grad():
        one.weight *= 7
    torch.testing.assert_close(one(3 * images), before)


def test_a_learnt_radius_is_one_a_layer_and_starts_where_it_is_set():
    learnt = convolution(Operator("decoupled", radius=0.7, learn_radius=True))
    fixed = convolution(Operator("decoupled", radius=0.7))
    images = drawn(1, 2, 4, 4)
    torch.testing.assert_close(learnt(images), fixed(images), rtol=1e-6, atol=0)
    learnt(images).sum().backward()
    assert learnt.log_radius.grad.abs() > 0


@pytest.mark.parametrize("backbone", ["small", "mnist"])
@pytest.mark.parametrize("conv", ["plain", "sphere", "decoupled"])
def test_the_networks_have_the_layers(backbone, conv):
    parameters = {"widths": [4]} if backbone == "small" else {"width": 0.05}
    network = build_backbone(backbone, (1, 8, 8), {**parameters, "features": 3, "conv": conv})
    kinds = {type(m) for m in network.modules() if isinstance(m, nn.Conv2d)}
    assert kinds == {nn.Conv2d if conv == "plain" else DecoupledConv2d}
    assert network(torch.rand(2, 1, 8, 8)).shape == (2, 3)


def test_a_plain_network_keeps_its_key_and_its_start():
    plain = tiny_cell()
    assert "conv" in plain.backbone.added_later
    spelt = component("small", widths=[4], features=2, conv="plain", angular="cosine")
    assert resolve_cell(plain.model_copy(update={"backbone": spelt})).key == plain.key
    sphere = component("small", widths=[4], features=2, conv="sphere")
    other = resolve_cell(plain.model_copy(update={"backbone": sphere}))
    assert other.key != plain.key
    assert other.comparison != plain.comparison


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"angular": "linear"}, "angular = 'linear' is not allowed with conv = 'plain'"),
        ({"conv": "sphere", "radius": 2.0}, "radius = 2.0 is not allowed with conv = 'sphere'"),
        ({"conv": "cube"}, "conv = 'cube' is not allowed; allowed: 'plain' or 'sphere' or"),
    ],
)
@pytest.mark.parametrize("backbone", ["small", "cifar10"])
def test_what_has_no_effect_is_refused(backbone, parameters, words):
    with pytest.raises(UserError) as refusal:
        build_backbone(backbone, (3, 8, 8), parameters)
    assert f"backbone {backbone!r}: {words}" in str(refusal.value)
    assert resolve_backbone_parameters(backbone, {"conv": "sphere"})["conv"] == "sphere"
