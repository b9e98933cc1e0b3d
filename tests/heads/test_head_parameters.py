"""What a head refuses in words, and how its parameters are declared."""

import ast
import inspect
import math

import pytest
import torch

from marginbench.errors import UserError
from marginbench.heads import build_head, head_class, head_names, resolve_head_parameters
from marginbench.heads.many_classes import many_classes
from marginbench.plugins.parameters import describe_parameters


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("weighted-softmax", {"class_weights": (1.0, 2.0)}, ["2 numbers", "4 classes"]),
        ("weighted-softmax", {"class_weights": (1.0, -1.0, 1.0, 1.0)}, ["class_weights", "≥ 0"]),
        ("l2-softmax", {"p": 0.01}, ["p = 0.01", "allowed: a larger p"]),
        ("l2-softmax", {"p": 1.0}, ["p = 1.0", "from above 0 to below 1"]),
        ("l2-softmax", {"alpha": 0.0}, ["alpha = 0.0", "> 0"]),
        ("magface", {"u_a": 5.0}, ["u_a = 5.0", "> l_a = 10.0"]),
        ("magface", {"u_m": 0.1}, ["u_m = 0.1", "≥ l_m = 0.45"]),
        ("combined-margin", {"m1": 0.5}, ["m1 = 0.5", "number from 1 to 100"]),
        ("combined-margin", {"beyond": "linear"}, ["'mirror' or 'clamp' or 'none' or 'easy'"]),
        ("arcface", {"grad": "fast"}, ["'exact' or 'detached'"]),
        ("triplet", {"mining": "easy"}, ["'all' or 'semi-hard' or 'hard'"]),
        ("circle", {"m": 1.5}, ["m = 1.5", "from 0 to 1"]),
        ("sphereface2", {"positive_weight": 1.0}, ["positive_weight = 1.0"]),
        ("sphereface2", {"t": 0.5}, ["t = 0.5", "≥ 1"]),
        ("sphereface-r", {"version": "v3"}, ["'v0' or 'v1' or 'v2'"]),
        ("subcenter-arcface", {"subcenters": 0}, ["subcenters = 0", "integer from 1 to 100"]),
        ("subcenter-arcface", {"subcenters": 10**9}, ["subcenters = 1000000000", "100"]),
        ("l-softmax", {"m": 100_000}, ["m = 100000", "integer from 1 to 100"]),
        ("l-softmax", {"m": 10**26}, ["m = 100000000000000000000000000", "at most 64 bits"]),
        ("a-softmax", {"m": 101}, ["m = 101", "100"]),
        ("sphereface-fnorm", {"m": 101}, ["m = 101", "100"]),
        ("sphereface-r", {"m": 1e26}, ["m = 1e+26", "100"]),
        ("combined-margin", {"m1": 100.5}, ["m1 = 100.5", "100"]),
        ("combined-margin", {"m3": 3.0}, ["m3 = 3.0", "2"]),
        ("am-softmax", {"m": 2.5}, ["m = 2.5", "2"]),
        ("sphereface2", {"m": 1e9}, ["m = 1000000000.0", "2"]),
        ("triplet", {"margin": 5.0}, ["margin = 5.0", "4"]),
        ("adaface", {"momentum": 2.0}, ["momentum = 2.0"]),
    ],
)
def test_impossible_parameters_are_refused_in_words(name, parameters, words):
    with pytest.raises(UserError) as refusal:
        build_head(name, 5, 4, **parameters)
    for word in [f"'{name}'", *words]:
        assert word in str(refusal.value)


@pytest.mark.parametrize(
    ("num_classes", "p", "alpha"),
    [(10, 0.9, math.log(72)), (1000, 0.95, math.log(0.95 * 998 / 0.05)), (2, 0.9, math.log(9))],
)
def test_alpha_is_the_lower_bound_for_the_wished_probability(num_classes, p, alpha):
    assert build_head("l2-softmax", 5, num_classes, p=p).alpha == pytest.approx(alpha)


def test_the_bound_on_alpha_gives_the_wished_probability():
    # The paper's setting: the own class at cosine 1, the others' logits 0 but for the opposite.
    classes, p = 20, 0.9
    alpha = build_head("l2-softmax", 5, classes, p=p).alpha
    logits = torch.tensor([alpha] + [0.0] * (classes - 2) + [-math.inf], dtype=torch.float64)
    assert logits.softmax(0)[0].item() == pytest.approx(p)


def test_what_is_learnt_is_a_parameter():
    assert build_head("normface", 5, 4, learn_s=True).s.requires_grad
    assert build_head("l2-softmax", 5, 4, learn_alpha=True).alpha.requires_grad
    assert dict(build_head("normface", 5, 4).named_parameters()).keys() == {"weight"}
    assert build_head("normface", 5, 4, s=7.0, learn_s=True).diagnostics()["s"].item() == 7


def test_the_floor_of_normface():
    # Wang et al., Proposition 2: log(1 + (K−1)exp(−sK/(K−1))), reached by a regular simplex.
    k, s = 10, 1.0
    head = build_head("normface", k, k, s=s).double()
    simplex = torch.eye(k, dtype=torch.float64) - 1 / k
    with torch.no_grad():
        head.weight.copy_(simplex)
    floor = math.log(1 + (k - 1) * math.exp(-s * k / (k - 1)))
    assert head(simplex, torch.arange(k)).item() == pytest.approx(floor)
    assert floor == pytest.approx(1.38, abs=0.005)


@pytest.mark.parametrize("name", head_names())
def test_every_head_says_what_it_is_and_where_it_comes_from(name):
    head = head_class(name)
    assert head.formula
    assert head.paper
    for parameter, _, _ in describe_parameters(name, head):
        declared_by = head if parameter in inspect.signature(head).parameters else many_classes
        assert f"{parameter}:" in declared_by.__doc__


@pytest.mark.parametrize("name", head_names())
def test_parameters_can_be_read_without_running_the_head(name):
    # Literal defaults, and annotations of builtins, typing and plugins.parameters alone.
    import marginbench.plugins.parameters as ranges

    module = ast.parse(inspect.getsource(inspect.getmodule(head_class(name))))
    allowed = {"None", "bool", "int", "float", "str", "tuple", "Literal", *vars(ranges)}
    (init,) = (
        item
        for node in ast.walk(module)
        if isinstance(node, ast.ClassDef) and node.name == head_class(name).__name__
        for item in node.body
        if isinstance(item, ast.FunctionDef) and item.name == "__init__"
    )
    for argument, default in zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True):
        ast.literal_eval(default)
        names = {n.id for n in ast.walk(argument.annotation) if isinstance(n, ast.Name)}
        assert names <= allowed


@pytest.mark.parametrize("name", head_names())
def test_defaults_are_allowed_values(name):
    resolved = resolve_head_parameters(name, {})
    assert resolve_head_parameters(name, resolved) == resolved
