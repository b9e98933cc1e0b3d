"""Decision boundaries of two classes, found from the loss alone by root finding.

With two classes the target's logit equals the other's exactly where the loss is log 2.
"""

import math

import pytest
import torch
from scipy.optimize import brentq

from tests.heads import head_oracles


def two_class_head(name, between, **parameters):
    """A head whose two class weights, of length 1, enclose an angle."""
    head = head_oracles.double_head(name, 2, 2, **parameters)
    rows = [[1.0, 0.0], [math.cos(between), math.sin(between)]]
    with torch.no_grad():
        head.weight.copy_(torch.tensor(rows, dtype=torch.float64).view_as(head.weight))
    return head


def boundary(head, between, length=3.0):
    """θ₁ at which a sample of class 1, between both weights, is at the boundary; and θ₂."""

    def excess(theta):
        features = length * torch.tensor([[math.cos(theta), math.sin(theta)]], dtype=torch.float64)
        with torch.no_grad():
            return head(features, torch.tensor([0])).item() - math.log(2)

    theta = brentq(excess, 0, between, xtol=1e-13)
    return theta, between - theta


@pytest.mark.parametrize("between", [0.3, 1.0, 2.0, 3.0])
@pytest.mark.parametrize("m", range(1, 9))
@pytest.mark.parametrize("name", ["l-softmax", "a-softmax", "sphereface-fnorm"])
def test_the_angular_margin_of_section_3_3(name, m, between):
    head = two_class_head(name, between, m=m)
    theta, _ = boundary(head, between)
    # By symmetry the boundary of class 2 lies as far from its own weight.
    margin = between - 2 * theta
    assert margin == pytest.approx((m - 1) / (m + 1) * between, abs=1e-9)


def relations():
    """The survey's table, each with (m, residual of its boundary); and the later losses alike."""
    cos = math.cos
    yield "weight-normalised-softmax", {}, lambda a, b: cos(a) - cos(b)
    yield "normface", {"s": 8.0}, lambda a, b: cos(a) - cos(b)
    for m in (2, 3, 4):
        for name in ("l-softmax", "a-softmax", "sphereface-fnorm"):
            yield name, {"m": m}, lambda a, b, m=m: cos(m * a) - cos(b)
    for m in (0.1, 0.35):
        yield "am-softmax", {"m": m}, lambda a, b, m=m: cos(a) - m - cos(b)
        for beyond in ("linear", "mirror", "clamp", "none"):
            parameters = {"m": m, "beyond": beyond}
            yield "arcface", parameters, lambda a, b, m=m: cos(a + m) - cos(b)
        yield "subcenter-arcface", {"m": m, "subcenters": 1}, lambda a, b, m=m: cos(a + m) - cos(b)
    yield "combined-margin", {}, lambda a, b: cos(a + 0.3) - 0.2 - cos(b)
    yield (
        "combined-margin",
        {"m1": 1.5, "m2": 0.1, "m3": 0.1},
        lambda a, b: cos(1.5 * a + 0.1) - 0.1 - cos(b),
    )
    yield "sphereface-r", {"m": 1.5}, lambda a, b: cos(1.5 * a) - cos(b)
    yield "sphereface-r", {"m": 1.5, "version": "v2"}, lambda a, b: cos(a) - cos(b / 1.5)
    yield "circle", {"m": 0.4, "s": 16.0}, lambda a, b: (cos(a) - 1) ** 2 + cos(b) ** 2 - 2 * 0.4**2


@pytest.mark.parametrize("between", [1.3, 1.8, 2.4])
@pytest.mark.parametrize(("name", "parameters", "residual"), list(relations()))
def test_the_decision_boundary_of_each_loss(name, parameters, residual, between):
    head = two_class_head(name, between, **parameters)
    own, other = boundary(head, between)
    assert residual(own, other) == pytest.approx(0, abs=1e-9)
    assert 0 < own < between


def test_the_decision_boundary_of_softmax_has_the_bias():
    head = head_oracles.double_head("softmax", 3, 2, bias=True)
    with torch.no_grad():
        head.bias.copy_(torch.tensor([0.4, -0.3]))
    end = 5 * (head.weight.detach()[0] - head.weight.detach()[1])
    start = torch.tensor([0.3, -0.2, 0.1]) - end

    def excess(share):
        x = (start + share * (end - start))[None]
        return head(x, torch.tensor([0])).item() - math.log(2)

    x = start + brentq(excess, 0, 1, xtol=1e-13) * (end - start)
    weight, bias = head.weight.detach(), head.bias.detach()
    residual = (weight[0] - weight[1]) @ x + bias[0] - bias[1]
    assert residual.item() == pytest.approx(0, abs=1e-9)


def test_the_boundary_of_sphereface2_is_its_own_for_each_class():
    head = head_oracles.double_head("sphereface2", 2, 1, s=16.0)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 0.0]]))
        head.bias.fill_(2.0)

    def excess(theta):
        x = torch.tensor([[math.cos(theta), math.sin(theta)]], dtype=torch.float64)
        return head(x, torch.tensor([0])).item() - 0.7 / 16 * math.log(2)

    theta = brentq(excess, 0, math.pi, xtol=1e-13)
    adjusted = 2 * ((math.cos(theta) + 1) / 2) ** 3 - 1
    assert 16 * (adjusted - 0.4) + 2 == pytest.approx(0, abs=1e-9)
