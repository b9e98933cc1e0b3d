"""What each loss becomes when its margin is nought, to the bit where the issue asks for that."""

import copy

import pytest
import torch

from marginbench.heads import build_head, head_class, head_names
from marginbench.testing import check_head
from tests.heads import head_oracles


def twins(name, other, parameters, other_parameters, dtype=torch.float32):
    """Two heads with the same weights."""
    torch.manual_seed(0)
    head = build_head(name, 6, 5, **parameters).to(dtype)
    twin = build_head(other, 6, 5, **other_parameters).to(dtype)
    with torch.no_grad():
        twin.weight.copy_(head.weight.view_as(twin.weight))
    return head, twin


def loss_and_gradients(head, features, labels):
    features = features.clone().requires_grad_()
    loss = head(features, labels)
    loss.backward()
    return loss.detach(), features.grad, head.weight.grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_l_softmax_with_m_1_is_softmax_to_the_bit(dtype, scale):
    own = torch.float64 if dtype == torch.float64 else torch.float32
    head, twin = twins("l-softmax", "softmax", {"m": 1, "lambda_base": 9.0}, {}, own)
    features, labels = head_oracles.batch()
    features = (scale * features).to(dtype)
    for one, other in zip(
        loss_and_gradients(head, features, labels),
        loss_and_gradients(twin, features, labels),
        strict=True,
    ):
        assert torch.equal(one, other)
    assert torch.equal(head.logits(features), twin.logits(features))


@pytest.mark.parametrize("base", [0.0, 100.0])
def test_a_softmax_with_m_1_is_weight_normalised_softmax(base):
    head, twin = twins(
        "a-softmax", "weight-normalised-softmax", {"m": 1, "lambda_base": base}, {}, torch.float64
    )
    features, labels = head_oracles.batch()
    for one, other in zip(
        loss_and_gradients(head, features, labels),
        loss_and_gradients(twin, features, labels),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


DECLARED = [name for name in head_names() if head_class(name).without_margin]


def test_every_head_with_a_margin_of_one_number_declares_what_it_is_without():
    assert set(DECLARED) == {
        "a-softmax", "adaface", "am-softmax", "arcface", "center", "combined-margin",
        "contrastive",
        "l-softmax", "magface", "sphereface-fnorm", "sphereface-r", "subcenter-arcface", "triplet",
        "weighted-softmax",
    }  # fmt: skip


@pytest.mark.parametrize("name", DECLARED)
def test_without_margin_each_is_the_head_it_declares(name):
    declared = head_class(name).without_margin
    head, twin = twins(
        name, declared.head, declared.parameters, declared.head_parameters, torch.float64
    )
    features, labels = head_oracles.batch(n=40)
    for one, other in zip(
        loss_and_gradients(head, features, labels),
        loss_and_gradients(twin, features, labels),
        strict=True,
    ):
        torch.testing.assert_close(one.view_as(other), other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("combined", "other", "parameters"),
    [
        ((1.0, 0.5, 0.0), "arcface", {"m": 0.5, "s": 64.0, "beyond": "mirror"}),
        ((1.0, 0.0, 0.35), "am-softmax", {"m": 0.35, "s": 64.0}),
        ((3.0, 0.0, 0.0), "sphereface-fnorm", {"m": 3, "s": 64.0, "lambda_base": 0.0}),
        ((2.5, 0.0, 0.0), "sphereface-r", {"m": 2.5, "s": 64.0, "version": "v0", "grad": "exact"}),
    ],
)
def test_the_combined_margin_holds_the_single_ones(combined, other, parameters):
    m1, m2, m3 = combined
    head, twin = twins(
        "combined-margin", other, {"m1": m1, "m2": m2, "m3": m3}, parameters, torch.float64
    )
    features, labels = head_oracles.batch(n=60)
    for one, two in zip(
        loss_and_gradients(head, features, labels),
        loss_and_gradients(twin, features, labels),
        strict=True,
    ):
        torch.testing.assert_close(one, two, rtol=1e-8, atol=1e-8)


def test_one_subcenter_is_arcface():
    head, twin = twins("subcenter-arcface", "arcface", {"subcenters": 1}, {}, torch.float64)
    features, labels = head_oracles.batch(n=60)
    for one, two in zip(
        loss_and_gradients(head, features, labels),
        loss_and_gradients(twin, features, labels),
        strict=True,
    ):
        torch.testing.assert_close(one.view_as(two), two, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", head_names())
def test_logits_have_no_margin(name):
    # In training and in evaluation alike: what is tested is the classifier, and not the margin.
    head = head_oracles.double_head(name)
    features, labels = head_oracles.batch()
    before = head.logits(features)
    copy.deepcopy(head)(features, labels)
    assert torch.equal(head.eval().logits(features), before)


def test_a_false_declaration_is_caught(monkeypatch):
    wrong = head_class("am-softmax").without_margin._replace(parameters={"m": 0.1, "s": 16.0})
    monkeypatch.setattr(head_class("am-softmax"), "without_margin", wrong)
    failed = [result for result in check_head("am-softmax") if not result.passed]
    assert [result.name for result in failed] == ["without margin"]
