"""Wrong margins and test logits, each in a few lines, and the check that must name them."""

from typing import Literal

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from marginbench.heads import CosineHead
from marginbench.heads.geometry import direction, norm_and_direction
from marginbench.plugins.parameters import NonNegative
from tests.testing.wrong_heads import Right, WithKinds, assert_fails, collected

pytestmark = pytest.mark.usefixtures("scratch_registry")

WRONG, wrong = collected()


@wrong("margin off", "the margin is on in the test logits")
class MarginLeftOn(Right):
    def scores(self, features):
        return self.s * self.psi(self.norms_and_cosines(features)[1])


@wrong("trained weights", "normalised in one and not in the other")
class PlainWeightsInTesting(Right):
    def scores(self, features):
        return F.linear(direction(features), self.weight)


@wrong("trained weights", "normalised in one and not in the other")
class PlainWeightsInTraining(Right):
    def norms_and_cosines(self, features):
        norms, directions = norm_and_direction(features)
        weight = self.weight if self.training else direction(self.weight)
        return norms, F.linear(directions, weight)


@wrong("trained weights", "normalised in training and not in testing")
class PlainFeaturesInTesting(Right):
    def loss(self, features, labels):
        return F.cross_entropy(self.scores(direction(features)), labels)

    def scores(self, features):
        return F.linear(features, self.weight) + 3 * torch.arange(self.num_classes)


@wrong("margin sign", "the margin lowers the loss")
class MarginOfTheWrongSign(Right):
    def psi(self, cosine):
        return cosine + self.m


@wrong("margin sign", "the margin lowers the loss")
class AngleOfTheWrongSign(Right):
    def psi(self, cosine):
        return (cosine.clamp(-0.9999, 0.9999).acos() - self.m).cos()


class Undeclared(CosineHead):
    """A margin by another name, of a head that does not say what it is without."""

    def __init__(self, in_features, num_classes, *, strength: NonNegative = 0.3):
        super().__init__(in_features, num_classes, s=8.0)
        self.strength = strength

    def psi(self, cosine):
        return cosine - self.strength


@wrong("margin off", "they are ψ of every class's cosine")
class UndeclaredMarginLeftOn(Undeclared):
    def scores(self, features):
        return self.s * self.psi(self.norms_and_cosines(features)[1])


@wrong("margin sign", "up to π/2 ψ lies above cos θ")
class UndeclaredMarginOfTheWrongSign(Undeclared):
    def psi(self, cosine):
        return cosine + self.strength


@wrong("margin off", "the margin m has no effect on the loss")
class MarginIgnored(Right):
    def psi(self, cosine):
        return cosine - 0.3


@wrong("margin off", "with kind='b': the margin is on in the test logits")
class MarginLeftOnInAnotherKind(WithKinds):
    def __init__(
        self, in_features, num_classes, *, m: NonNegative = 0.3, kind: Literal["a", "b"] = "a"
    ):
        super().__init__(in_features, num_classes, kind=kind)
        self.m = m

    def scores(self, features):
        margin = self.m if self.kind == "b" else 0
        return super().scores(features) - self.s * margin


@wrong("without margin", "the test logits are off by")
class OtherLogitsWithoutMargin(Right):
    def scores(self, features):
        return 2 * super().scores(features)


@wrong("trained weights", "the test logits depend on 'other', which the loss does not use")
class OtherWeightsTested(Right):
    def __init__(self, in_features, num_classes, *, m: NonNegative = 0.3):
        super().__init__(in_features, num_classes, m=m)
        self.other = nn.Parameter(self.weight.detach().clone())

    def scores(self, features):
        return self.s * F.linear(direction(features), direction(self.other))


@wrong("trained weights", "the test logits depend on no parameter")
class FirstWeightsTested(Right):
    def __init__(self, in_features, num_classes, *, m: NonNegative = 0.3):
        super().__init__(in_features, num_classes, m=m)
        self.register_buffer("first", self.weight.detach().clone())

    def scores(self, features):
        return self.s * F.linear(direction(features), direction(self.first))


@wrong("learning", "the test logits choose the wrong class for")
class DistancesAsLogits(Right):
    def scores(self, features):
        return -super().scores(features)


@wrong("learning", "the test logits choose the wrong class for")
class TrainsTheNextClass(Right):
    def loss(self, features, labels):
        return super().loss(features, (labels + 1) % self.num_classes)


@pytest.mark.parametrize(("head", "check", "words"), WRONG)
def test_a_wrong_head_fails_by_the_property_that_it_breaks(head, check, words):
    assert_fails(head, check, words)
