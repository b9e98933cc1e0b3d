"""Wrong heads, each in a few lines, and the check that must name the property that it breaks."""

import sys
from typing import Literal

import pytest
import torch
from torch.nn import functional as F

from marginbench.heads import register_head, replace_target
from marginbench.heads.geometry import direction
from marginbench.plugins.parameters import MarginGradient, NonNegative
from marginbench.testing import check_head
from tests.testing.wrong_heads import Right, WithKinds, WrongSlope, assert_fails, collected

pytestmark = pytest.mark.usefixtures("scratch_registry")


WRONG, wrong = collected()


@wrong("gradients", "in training mode is off by")
class WrongGradientInTheDefaultMode(Right):
    def __init__(self, in_features, num_classes, *, grad: MarginGradient = "detached"):
        super().__init__(in_features, num_classes, grad=grad)

    def scale(self, norms):
        return self.s

    def norms_and_cosines(self, features):
        norms, cosine = super().norms_and_cosines(features)
        return norms, WrongSlope.apply(cosine) if self.grad == "detached" else cosine


@wrong("gradients", "in training mode is off by")
class WrongGradientInTraining(Right):
    def psi(self, cosine):
        return super().psi(WrongSlope.apply(cosine) if self.training else cosine)


@wrong("gradients", "in evaluation mode is off by")
class WrongGradientInEvaluation(Right):
    def psi(self, cosine):
        return super().psi(cosine if self.training else WrongSlope.apply(cosine))


@wrong("gradients", "with kind='b': the gradient for")
class WrongGradientInAnotherKind(WithKinds):
    def __init__(self, in_features, num_classes, *, kind: Literal["a", "b"] = "a"):
        super().__init__(in_features, num_classes, kind=kind)

    def psi(self, cosine):
        return super().psi(cosine if self.kind == "a" else WrongSlope.apply(cosine))


@wrong("gradients", "grad changes the gradient only")
class DetachedWithoutItsMargin(Right):
    def with_chosen_gradient(self, cosine, margined):
        return margined if self.grad == "exact" else cosine


@wrong("gradients", "is not that of no margin")
class DetachedAltogether(Right):
    def with_chosen_gradient(self, cosine, margined):
        return margined if self.grad == "exact" else margined.detach()


@wrong("gradients", "is declared in gradient_leaves_out")
class DetachesInSecret(Right):
    def psi(self, cosine):
        return cosine - self.m * (1 - cosine.detach())


@wrong("gradients", "no gradient reaches the features")
class FeaturesDetached(Right):
    def loss(self, features, labels):
        return super().loss(features.detach(), labels)


@wrong("evaluation", "loss in evaluation mode changes the state 'iteration'")
class AnnealsInEvaluation(Right):
    def __init__(self, in_features, num_classes, *, m: NonNegative = 0.3):
        super().__init__(in_features, num_classes, m=m)
        self.register_buffer("iteration", torch.zeros((), dtype=torch.int64))

    def psi(self, cosine):
        self.iteration += 1
        return cosine - self.m / self.iteration


@wrong("evaluation", "logits in training mode changes the state 'mean'")
class MovesStateInLogits(Right):
    def __init__(self, in_features, num_classes, *, m: NonNegative = 0.3):
        super().__init__(in_features, num_classes, m=m)
        self.register_buffer("mean", torch.zeros(()))

    def scores(self, features):
        if self.training:
            self.mean.lerp_(features.detach().mean(), 0.1)
        return super().scores(features)


@wrong("evaluation", "the loss of one batch changes from call to call")
class CountsInPython(Right):
    calls = 0

    def psi(self, cosine):
        self.calls += 1
        return cosine - self.m * (1 - 0.9**self.calls)


@wrong("evaluation", "the loss of one batch changes from call to call")
class DropsOutInEvaluation(Right):
    def loss(self, features, labels):
        return super().loss(F.dropout(features, 0.5, training=True), labels)


@wrong("evaluation", "the logits of one batch changes from call to call")
class RemembersTheLastBatch(Right):
    last = 0.0

    def loss(self, features, labels):
        self.last = float(features.detach().mean())
        return super().loss(features, labels)

    def scores(self, features):
        return super().scores(features) * (1 + self.last)


@wrong("samples", "the loss depends on the order of the batch")
class WeighsByPlace(Right):
    def loss(self, features, labels):
        losses = F.cross_entropy(self.scores(features), labels, reduction="none")
        return (losses * torch.linspace(0.5, 1.5, len(losses))).mean()


@wrong("samples", "the loss depends on the order of the batch")
class LooksAtItsNeighbour(Right):
    def loss(self, features, labels):
        near = (features - features.roll(1, 0)).square().sum(dim=1)
        return super().loss(features, labels) + 0.01 * near.mean()


@wrong("samples", "the loss depends on the order of the batch")
class LeavesOutTheOddSample(Right):
    def loss(self, features, labels):
        even = len(labels) // 2 * 2 or 1
        return super().loss(features[:even], labels[:even])


@wrong("samples", "the loss is no mean over the samples")
class Sum(Right):
    def loss(self, features, labels):
        return super().loss(features, labels) * len(labels)


@wrong("samples", "in training mode")
class SumInTraining(Right):
    def loss(self, features, labels):
        return super().loss(features, labels) * (len(labels) if self.training else 1)


@wrong("samples", "the loss is no mean over the samples")
class OnlyTheHardestSample(Right):
    def loss(self, features, labels):
        return F.cross_entropy(self.scores(features), labels, reduction="none").max()


@wrong("samples", " of 7 does not count: with other label the loss is the same")
class LongFeaturesDoNotCount(Right):
    def loss(self, features, labels):
        return super().loss(
            torch.where(features.norm(dim=1, keepdim=True) > 20, 0, features), labels
        )


@wrong("inputs", "loss changes the features in place")
class FeaturesChangedBehindAutograd(Right):
    def loss(self, features, labels):
        features.data.div_(features.data.norm(dim=1, keepdim=True))
        return super().loss(features, labels)


@wrong("inputs", "logits changes the features in place")
class FeaturesChangedInTesting(Right):
    def scores(self, features):
        return super().scores(features.detach().mul_(2))


@wrong("inputs", "loss changes the labels in place")
class LabelsChanged(Right):
    def loss(self, features, labels):
        return super().loss(features, labels.clamp_(max=self.num_classes - 2))


@wrong("inputs", "loss changes the parameter 'weight' in place, in training mode")
class WeightsNormalisedInPlace(Right):
    def loss(self, features, labels):
        if self.training:
            self.weight.data = direction(self.weight.data)
        return super().loss(features, labels)


@wrong("edges", "with kind='b': the gradient for")
class NanAtZeroInAnotherKind(WithKinds):
    def __init__(self, in_features, num_classes, *, kind: Literal["a", "b"] = "a"):
        super().__init__(in_features, num_classes, kind=kind)

    def psi(self, cosine):
        return super().psi(cosine) if self.kind == "a" else (cosine.acos() + self.m).cos()


@wrong("state round trip", "with kind='b': 1 steps after loading")
class StateLostInAnotherKind(WithKinds):
    def __init__(self, in_features, num_classes, *, kind: Literal["a", "b"] = "a"):
        super().__init__(in_features, num_classes, kind=kind)
        self.steps = 0

    def psi(self, cosine):
        self.steps += self.training and self.kind == "b"
        return cosine - self.m * 0.9**self.steps


@wrong("class permutation", "the loss is off by")
class MarginGrowsWithTheClass(Right):
    def training_logits(self, norms, cosine, labels):
        target = self.psi(cosine.gather(1, labels[:, None])) - 0.1 * labels[:, None]
        return self.s * replace_target(cosine, labels, target)


@wrong("inputs", "ends the program: SystemExit(0)")
class EndsTheProgram(Right):
    def psi(self, cosine):
        sys.exit(0)


@pytest.mark.parametrize(("head", "check", "words"), WRONG)
def test_a_wrong_head_fails_by_the_property_that_it_breaks(head, check, words):
    assert_fails(head, check, words)


def test_the_right_head_that_they_depart_from_passes():
    register_head("right")(Right)
    assert [result for result in check_head("right") if not result.passed] == []


def test_where_inputs_are_changed_nothing_else_is_blamed():
    register_head("wrong")(LabelsChanged)
    first, *others = check_head("wrong")
    assert (first.name, first.passed) == ("inputs", False)
    assert all(result.skipped for result in others)
    assert {result.detail for result in others} == {"not checked, since 'inputs' fails"}
