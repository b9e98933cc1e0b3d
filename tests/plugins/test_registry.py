"""The registry of heads: names, parameters, refusals."""

import pytest
import torch

from marginbench.errors import UserError
from marginbench.heads import Head, build_head, head_names, register_head

CORE = ["a-softmax", "am-softmax", "arcface", "contrastive", "hinge", "l-softmax", "softmax"]


def test_core_heads_are_found_through_the_entry_point():
    assert set(CORE) <= set(head_names())


@pytest.mark.parametrize("name", CORE)
def test_every_head_gives_a_scalar_loss_and_logits(name):
    head = build_head(name, in_features=5, num_classes=4)
    features = torch.randn(6, 5, requires_grad=True)
    loss = head(features, torch.tensor([0, 1, 2, 3, 0, 1]))
    loss.backward()
    assert loss.shape == ()
    assert head.logits(features).shape == (6, 4)
    assert features.grad.isfinite().all()


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("arcfce", {}, ["'arcfce'", "did you mean 'arcface'", "softmax"]),
        ("arcface", {"margin": 0.5}, ["'arcface'", "'margin'", "m, s, beyond"]),
        ("arcface", {"m": 4.0}, ["'arcface'", "m = 4.0", "allowed: number from 0 to below π"]),
        ("arcface", {"m": float("nan")}, ["m = nan"]),
        (
            "arcface",
            {"beyond": "hard"},
            ["beyond = 'hard'", "'linear' or 'mirror' or 'clamp' or 'none' or 'easy'"],
        ),
        ("am-softmax", {"s": 0}, ["'am-softmax'", "s = 0", "number > 0"]),
        ("l-softmax", {"m": 2.5}, ["'l-softmax'", "m = 2.5", "integer from 1 to 100"]),
        ("l-softmax", {"m": 0}, ["m = 0", "integer from 1 to 100"]),
        ("hinge", {"norm": "L3"}, ["norm = 'L3'", "'L1' or 'L2'"]),
        ("softmax", {"bias": 1}, ["bias = 1", "True or False"]),
    ],
)
def test_bad_heads_and_parameters_are_refused_by_name(name, parameters, words):
    with pytest.raises(UserError) as refusal:
        build_head(name, in_features=5, num_classes=4, **parameters)
    for word in words:
        assert word in str(refusal.value)


@pytest.mark.parametrize("value", [0, -1, 2.0, True])
def test_impossible_sizes_are_refused(value):
    with pytest.raises(UserError, match="in_features"):
        build_head("softmax", in_features=value, num_classes=4)


def test_a_name_taken_twice_is_an_error():
    with pytest.raises(UserError, match="'softmax' is registered twice"):

        @register_head("softmax")
        class Other(Head):
            def loss(self, features, labels):
                return features.sum()

            def scores(self, features):
                return features


def test_a_head_that_swallows_parameters_is_refused():
    with pytest.raises(UserError, match="swallow"):

        @register_head("swallowing")
        class Swallowing(Head):
            def __init__(self, in_features, num_classes, **anything):
                super().__init__(in_features, num_classes)

            def loss(self, features, labels):
                return features.sum()

            def scores(self, features):
                return features


def test_something_else_than_a_head_is_refused():
    with pytest.raises(UserError, match="not a subclass"):
        register_head("module")(torch.nn.Linear)
