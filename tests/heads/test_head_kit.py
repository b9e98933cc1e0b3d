"""The built-in heads through the kit, in their defaults and in every choice that they offer."""

import pytest

from marginbench.errors import UserError
from marginbench.heads import head_names
from marginbench.testing import check_head, check_names, head_checks

SIX = (0.5, 1.0, 2.0, 1.0, 0.0, 3.0)
CHOICES = [
    ("softmax", {"bias": True}),
    ("weighted-softmax", {"class_weights": SIX}),
    ("hinge", {"norm": "L2"}),
    ("normface", {"learn_s": True}),
    ("l2-softmax", {"learn_alpha": True, "bias": False}),
    ("l-softmax", {"m": 1}),
    ("l-softmax", {"m": 4, "lambda_base": 10.0, "lambda_gamma": 0.5, "lambda_power": 1.0}),
    ("a-softmax", {"m": 3, "lambda_base": 10.0}),
    ("sphereface-fnorm", {"m": 8, "lambda_base": 10.0}),
    ("combined-margin", {"m1": 2.5, "beyond": "clamp"}),
    ("combined-margin", {"m1": 4.0, "m2": 1.0, "beyond": "none"}),
    ("sphereface-r", {"version": "v0", "m": 3.7}),
    ("sphereface-r", {"version": "v2"}),
    ("sphereface-r", {"feature_norm": "none"}),
    ("sphereface2", {"t": 1.0}),
    ("sphereface2", {"t": 2.5, "grad": "exact"}),
    ("circle", {"grad": "exact"}),
    ("magface", {"l_a": 1.0, "u_a": 20.0}),
    ("subcenter-arcface", {"subcenters": 1}),
    ("triplet", {"mining": "all"}),
    ("triplet", {"mining": "hard"}),
]
CHOICES += [("arcface", {"beyond": rule}) for rule in ("mirror", "clamp", "none")]
CHOICES += [
    (name, {"grad": "detached"})
    for name in (
        "arcface", "combined-margin", "subcenter-arcface", "adaface", "magface", "curricularface"
    )
]  # fmt: skip
ALL = [check for name in head_names() for check in head_checks(name)]
ALL += [
    check
    for name, parameters in CHOICES
    for check in head_checks(name, **parameters)
    if check.name != "cost"
]


def identity(check):
    settings = ",".join(f"{k}={v}" for k, v in check.subject.parameters.items())
    return f"{check.subject.name}-{settings}-{check.name}"


@pytest.mark.parametrize("check", ALL, ids=identity)
def test_built_in(check):
    check()


def test_the_kit_covers_what_it_promises():
    assert check_names() == [
        "gradients", "edges", "half precision", "class permutation", "state round trip",
        "optimiser", "unknown parameters", "test logits", "without margin", "cost",
    ]  # fmt: skip


def test_results_come_with_their_numbers():
    results = {result.name: result for result in check_head("arcface")}
    assert "along 24 directions" in results["gradients"].detail
    assert "weight (6, 8)" in results["optimiser"].detail
    assert "x softmax" in results["cost"].detail
    assert not any(result.skipped for result in results.values())


def test_what_does_not_apply_is_said_and_not_counted_as_proven():
    results = {result.name: result for result in check_head("adaface")}
    assert results["gradients"].skipped
    assert "the norms within the margin" in results["gradients"].detail
    results = {result.name: result for result in check_head("softmax")}
    assert results["without margin"].skipped


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("arcfce", {}, "did you mean 'arcface'"),
        ("arcface", {"margin": 1}, "no parameter 'margin'"),
        ("weighted-softmax", {"class_weights": [1, 2]}, "class_weights has 2 numbers"),
    ],
)
def test_the_kit_refuses_what_the_head_refuses(name, parameters, words):
    with pytest.raises(UserError, match=words):
        head_checks(name, **parameters)
