"""Deliberately wrong heads: each is caught by the check meant for its fault, first of all."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from marginbench.heads import (
    CosineHead,
    Head,
    WithoutMargin,
    classifier_weight,
    register_head,
    replace_target,
)
from marginbench.plugins.parameters import Positive
from marginbench.testing import CheckFailure, check_head, head_checks

pytestmark = pytest.mark.usefixtures("scratch_registry")


class Right(CosineHead):
    """The right head that each wrong one departs from in one thing."""

    def __init__(self, in_features, num_classes, *, m: Positive = 0.3, s: Positive = 8.0):
        super().__init__(in_features, num_classes, s=s)
        self.m = m

    def psi(self, cosine):
        return cosine - self.m


class NanAtZero(Right):
    """cos(θ + m) through acos: infinite slope at θ = 0."""

    def psi(self, cosine):
        return (cosine.acos() + self.m).cos()


class LeakingLabels(Right):
    """The margin stays on in the test logits, for the labels last seen."""

    def loss(self, features, labels):
        self.last_labels = labels
        return super().loss(features, labels)

    def scores(self, features):
        logits = super().scores(features)
        if len(getattr(self, "last_labels", ())) != len(features):
            return logits
        own = logits.gather(1, self.last_labels[:, None])
        return replace_target(logits, self.last_labels, own - self.m * self.s)


class ForgottenParameter(Right):
    """A learnt scale that is no nn.Parameter."""

    def __init__(self, in_features, num_classes, *, m: Positive = 0.3):
        super().__init__(in_features, num_classes, m=m, s=8.0)
        self.s = torch.tensor(8.0, requires_grad=True)


class ParameterInAList(Right):
    """One learnt vector that is kept in a plain list."""

    def __init__(self, in_features, num_classes, *, m: Positive = 0.3):
        super().__init__(in_features, num_classes, m=m)
        self.extras = [torch.zeros((), requires_grad=True)]

    def scale(self, norms):
        return self.s + self.extras[0]


class IdleParameter(Right):
    """A parameter that the loss does not use."""

    def __init__(self, in_features, num_classes, *, m: Positive = 0.3):
        super().__init__(in_features, num_classes, m=m)
        self.idle = nn.Parameter(torch.zeros(3))


class StateOutsideBuffers(Right):
    """A margin that grows by a plain Python counter."""

    def __init__(self, in_features, num_classes, *, m: Positive = 0.3):
        super().__init__(in_features, num_classes, m=m)
        self.steps = 0

    def psi(self, cosine):
        self.steps += self.training
        return cosine - self.m * (1 - 0.9**self.steps)


class TurnedGradient(torch.autograd.Function):
    @staticmethod
    def forward(context, cosine):
        return cosine.clone()

    @staticmethod
    def backward(context, gradient):
        return -gradient


class SignError(Right):
    """A backward pass of its own with the wrong sign."""

    def psi(self, cosine):
        return TurnedGradient.apply(cosine) - self.m


class HalfPrecision(Right):
    """Computes in bfloat16 where the features come in it."""

    def forward(self, features, labels):
        if features.dtype != torch.bfloat16:
            return super().forward(features, labels)
        return F.cross_entropy(F.linear(features, self.weight.bfloat16()), labels)


class UnequalClasses(Right):
    """Treats class 0 in another way than the others."""

    def training_logits(self, norms, cosine, labels):
        logits = super().training_logits(norms, cosine, labels)
        return logits + F.one_hot(torch.zeros_like(labels), self.num_classes) * 0.5


class BatchDependent(Right):
    """Centres the test logits over the batch."""

    def scores(self, features):
        logits = super().scores(features)
        return logits - logits.mean(dim=0, keepdim=True)


class Positional(Right):
    """A parameter that no grid can set."""

    def __init__(self, in_features, num_classes, margin: float = 0.3):
        super().__init__(in_features, num_classes, m=margin)


class FalseIdentity(Right):
    """Says that it is NormFace at m = 0.3."""

    without_margin = WithoutMargin({"m": 0.3}, "normface", {"s": 8.0})


class Spendthrift(Right):
    """Keeps an intermediate of size (N, K, D)."""

    def norms_and_cosines(self, features):
        norms, cosine = super().norms_and_cosines(features)
        product = features[:, None, :] * self.weight[None, :, :]
        return norms, cosine + 0 * product.square().sum(dim=2)


FAULTS = [
    (NanAtZero, "edges", "θ = 0"),
    (LeakingLabels, "test logits", "with the labels of an earlier loss"),
    (ForgottenParameter, "optimiser", "'s' of shape () is learnt but not among parameters()"),
    (ParameterInAList, "optimiser", "is learnt but not among parameters()"),
    (IdleParameter, "optimiser, trained weights", "no gradient reaches 'idle'"),
    (
        StateOutsideBuffers,
        "state round trip, plain attributes",
        "some state is not in state_dict()",
    ),
    (SignError, "gradients, learning", "the gradient for"),
    (HalfPrecision, "half precision", "comes out in bfloat16, not float32"),
    (UnequalClasses, "class permutation, logit values", "the loss is off by"),
    (BatchDependent, "test logits, logit values", "change by"),
    (Positional, "unknown parameters", "'margin' is not keyword-only"),
    (FalseIdentity, "without margin", "that of 'normface'"),
    (Spendthrift, "cost", "allowed: 64x softmax's memory"),
]


@pytest.mark.parametrize(("wrong", "check", "words"), FAULTS)
def test_each_fault_is_caught_by_its_own_check(wrong, check, words):
    register_head("wrong")(wrong)
    # All checks but that of time and memory, which takes as long as the others together.
    checks = (one for one in head_checks("wrong") if one.name != "cost" or check == "cost")
    failed = {r.name: r.detail for r in (one.run() for one in checks) if not r.passed}
    assert ", ".join(failed) == check
    assert words in next(iter(failed.values()))


class Dropping(Right):
    """Right, with dropout on the features in training."""

    def norms_and_cosines(self, features):
        return super().norms_and_cosines(F.dropout(features, 0.3, self.training))


@pytest.mark.parametrize("right", [Right, Dropping])
def test_a_right_head_fails_nothing(right):
    register_head("right")(right)
    assert [result for result in check_head("right") if not result.passed] == []


def test_a_check_raises_in_a_test_with_head_and_numbers():
    register_head("wrong")(SignError)
    (check,) = (check for check in head_checks("wrong") if check.name == "gradients")
    with pytest.raises(
        CheckFailure, match=r"wrong: gradients: the gradient for '\w+' in training mode is off"
    ):
        check()


def test_an_exception_of_the_head_is_a_failure_that_quotes_it():
    class Raising(Head):
        def __init__(self, in_features, num_classes):
            super().__init__(in_features, num_classes)
            self.weight = classifier_weight(num_classes, in_features)

        def loss(self, features, labels):
            raise RuntimeError("no loss today")

        def scores(self, features):
            return F.linear(features, self.weight)

    register_head("raising")(Raising)
    failed = {result.name: result.detail for result in check_head("raising") if not result.passed}
    assert failed == {"inputs": "raises RuntimeError: no loss today (K = 6, D = 8)"}
