"""The built-in heads through the kit, in their defaults and in every choice that they offer."""

import pytest

from marginbench.errors import UserError
from marginbench.heads import head_names
from marginbench.testing import HeadCheck, check_head, check_names, head_checks
from marginbench.testing.subject import Subject

SIX = (0.5, 1.0, 2.0, 1.0, 0.0, 3.0)
NUMBERS = [
    ("weighted-softmax", {"class_weights": SIX}),
    ("l2-softmax", {"learn_alpha": True, "bias": False}),
    ("l-softmax", {"m": 1}),
    ("l-softmax", {"m": 4, "lambda_base": 10.0, "lambda_gamma": 0.5, "lambda_power": 1.0}),
    ("a-softmax", {"m": 3, "lambda_base": 10.0}),
    ("a-softmax", {"m": 20}),
    ("sphereface-fnorm", {"m": 8, "lambda_base": 10.0}),
    ("combined-margin", {"m1": 2.5, "beyond": "clamp"}),
    ("combined-margin", {"m1": 4.0, "m2": 1.0, "beyond": "none"}),
    ("sphereface-r", {"version": "v0", "m": 3.7}),
    ("sphereface2", {"t": 1.0}),
    ("sphereface2", {"t": 2.5, "grad": "exact"}),
    ("magface", {"l_a": 1.0, "u_a": 20.0}),
    ("subcenter-arcface", {"subcenters": 1}),
]
ALL = [check for name in head_names() for check in head_checks(name)]


def identity(check):
    return f"{check.subject.name}-{check.name}"


@pytest.mark.parametrize("check", ALL, ids=identity)
def test_built_in(check):
    check()


@pytest.mark.parametrize(("name", "parameters"), NUMBERS)
def test_built_in_with_other_numbers(name, parameters):
    # Every choice of a word is a mode, which the kit tests by itself; these are numbers.
    subject = Subject(name, parameters, mode="these numbers")
    results = [HeadCheck(check, subject).run() for check in check_names() if check != "cost"]
    assert [result for result in results if not result.passed] == []


def test_the_kit_covers_what_it_promises():
    assert check_names() == [
        "inputs", "gradients", "edges", "half precision", "samples", "class permutation",
        "evaluation", "state round trip", "optimiser", "unknown parameters", "test logits",
        "trained weights", "logit values", "chunks", "cosines", "plain attributes", "effects",
        "margin off", "without margin", "margin sign", "learning", "cost",
    ]  # fmt: skip


def test_results_come_with_their_numbers():
    results = {result.name: result for result in check_head("am-softmax")}
    assert "along 8 directions" in results["gradients"].detail
    assert "weight (6, 8)" in results["optimiser"].detail
    assert "x softmax" in results["cost"].detail
    assert not any(result.skipped for result in results.values())


def test_what_does_not_apply_is_said_and_not_counted_as_proven():
    results = {result.name: result for result in check_head("softmax")}
    for name in ("margin off", "margin sign", "without margin"):
        assert results[name].skipped


def test_what_a_loss_detaches_is_held_constant_and_named():
    (gradients,) = (check for check in head_checks("adaface") if check.name == "gradients")
    result = gradients.run()
    assert not result.skipped
    assert "held constant, as declared: the norms within the margin; in 4 modes" in result.detail


def test_modes_are_every_choice_of_a_word_and_pairs_of_it_with_the_gradient():
    subject = Subject("sphereface-r")
    choices = ["version='v0'", "version='v2'", "feature_norm='none'"]
    single = ["", *choices, "grad='exact'"]
    assert [mode.mode for mode in subject.modes()] == single
    pairs = [f"{choice}, grad='exact'" for choice in choices]
    assert [mode.mode for mode in subject.modes(every_gradient=True)] == single + pairs
    assert [s.mode for s in Subject("softmax", {"bias": True}).modes()] == ["", "bias=False"]


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
