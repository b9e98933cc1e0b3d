"""Wrong heads whose fault shows at other sizes, in values, over chunks, or in what they keep."""

import itertools
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from marginbench.heads import CosineHead, Head, classifier_weight, register_head
from marginbench.heads.geometry import direction
from marginbench.plugins.parameters import Fraction, NonNegative, Positive
from marginbench.testing import check_head
from tests.testing.wrong_heads import Right, WrongSlope, assert_fails, collected

pytestmark = pytest.mark.usefixtures("scratch_registry")

WRONG, wrong = collected()


class Cosine(CosineHead):
    """A right head that declares no ``without_margin``, as most of those that are written."""

    def __init__(self, in_features, num_classes, *, m: NonNegative = 0.3, s: Positive = 8.0):
        super().__init__(in_features, num_classes, s=s)
        self.m = m

    def psi(self, cosine):
        return cosine - self.m


class Plain(Head):
    """A right head of the user's own, cross-entropy of scaled cosines."""

    def __init__(self, in_features, num_classes, *, m: NonNegative = 0.3, s: Positive = 8.0):
        super().__init__(in_features, num_classes)
        self.weight = classifier_weight(num_classes, in_features)
        self.m, self.s = m, s

    def loss(self, features, labels):
        margin = self.m * self.s * F.one_hot(labels, self.num_classes)
        return F.cross_entropy(self.scores(features) - margin, labels)

    def scores(self, features):
        return self.s * F.linear(direction(features), direction(self.weight))


# Sizes.


@wrong("margin sign", "with other sizes: the margin lowers the loss")
class SignByParity(Right):
    def psi(self, cosine):
        return cosine - (self.m if self.num_classes % 2 == 0 else -self.m)


@wrong("gradients", "with other sizes: the gradient for")
class SlopeForFewClasses(Right):
    def psi(self, cosine):
        return super().psi(cosine if self.num_classes > 3 else WrongSlope.apply(cosine))


@wrong("class permutation", "with other sizes: with the classes in another order the loss is")
class LastOfOddClassesForgotten(Right):
    def training_logits(self, norms, cosine, labels):
        logits = super().training_logits(norms, cosine, labels)
        if self.num_classes % 2 == 0:
            return logits
        last = torch.arange(self.num_classes) == self.num_classes - 1
        return torch.where(last & (labels[:, None] != self.num_classes - 1), -30.0, logits)


@wrong("margin off", "with other sizes: the margin is on in the test logits")
class MarginOnWithMoreClassesThanFeatures(Right):
    def scores(self, features):
        logits = super().scores(features)
        return logits - self.m * self.s if self.num_classes > self.in_features else logits


@wrong("logit values", "with other sizes: without margin")
class OtherScaleInManyDimensions(Cosine):
    def scores(self, features):
        return super().scores(features) * (1 if self.in_features < 64 else 0.5)


@wrong("trained weights", "with other sizes: raises RuntimeError")
class PairsOfClasses(Right):
    def scores(self, features):
        return super().scores(features).view(len(features), -1, 2).flatten(1)


@wrong("samples", "the loss is no mean over the samples")
class NoMarginInSmallBatches(Right):
    def loss(self, features, labels):
        if len(labels) < 4:
            return F.cross_entropy(self.scores(features), labels)
        return super().loss(features, labels)


@wrong("samples", "the loss is no mean over the samples")
class SumInLargeBatches(Right):
    def loss(self, features, labels):
        return super().loss(features, labels) * max(1, len(labels) / 64)


@wrong("samples", "the loss is no mean over the samples")
class DividesByNMinusOne(Right):
    def loss(self, features, labels):
        return super().loss(features, labels) * len(labels) / max(len(labels) - 1, 1)


@wrong("gradients", "with 1 samples")
class DetachedForASingleSample(Right):
    def psi(self, cosine):
        return super().psi(cosine if len(cosine) > 1 else cosine.detach())


@wrong("gradients", "with 96 samples")
class DetachedInLargeBatches(Right):
    def psi(self, cosine):
        return super().psi(cosine if len(cosine) < 50 else cosine.detach())


# The values of the test logits.


@wrong("logit values", "softmax of other logits than the test logits: log p is")
class CosinesForLogits(Plain):
    def scores(self, features):
        return F.linear(direction(features), direction(self.weight))

    def loss(self, features, labels):
        margin = self.m * F.one_hot(labels, self.num_classes)
        return F.cross_entropy(self.s * (self.scores(features) - margin), labels)


@wrong("logit values", "softmax of other logits than the test logits")
class TemperatureInTesting(Cosine):
    def scores(self, features):
        return super().scores(features) / 1.5


@wrong("logit values", "in training mode")
class TemperatureInTraining(Cosine):
    def scale(self, norms):
        return self.s * (2 if self.training else 1)


@wrong("logit values", "softmax of other logits than the test logits")
class PriorInTesting(Plain):
    def scores(self, features):
        prior = 0 if self.training else torch.arange(self.num_classes) / 10
        return super().scores(features) + prior


@wrong("logit values", "softmax of other logits than the test logits")
class LossOfTwiceTheFeatures(Head):
    def __init__(self, in_features, num_classes):
        super().__init__(in_features, num_classes)
        self.weight = classifier_weight(num_classes, in_features)

    def loss(self, features, labels):
        return F.cross_entropy(self.scores(2 * features), labels)

    def scores(self, features):
        return F.linear(features, self.weight)


@wrong("logit values", "softmax of other logits than the test logits")
class FeaturesLengthInTesting(Cosine):
    def scores(self, features):
        return features.norm(dim=1, keepdim=True) * self.norms_and_cosines(features)[1]


@wrong("margin off", "the margin is on in the test logits: one is")
class MarginInTheScale(Cosine):
    def scores(self, features):
        return super().scores(features) * (1 + self.m)


# Chunks.


@wrong("chunks", "with chunk = 2 'loss' is")
class TermForgottenInChunks(Cosine):
    softmax_over_classes = True

    def loss(self, features, labels):
        loss = super().loss(features, labels)
        return loss if self.many_classes.chunk else loss + 0.01 * self.weight.square().mean()


@wrong("chunks", "with chunk = 5")
class LastPartForgotten(Cosine):
    def others(self, cosine, own):
        whole = cosine.shape[1] in (2, 5, self.num_classes)
        return cosine if whole else cosine - 0.1


@wrong("chunks", "needs them all at once says softmax_over_classes = False")
class MeanOfAllClasses(Cosine):
    def others(self, cosine, own):
        return cosine - cosine.mean(dim=1, keepdim=True).detach()


@wrong("chunks", "with sampled_classes = 0.916667")
class TermForgottenInSamples(Cosine):
    softmax_over_classes = True

    def loss(self, features, labels):
        loss, norms = self.softmax_loss(features, labels)
        return loss + (0.01 * norms.mean() if self.many_classes.sampled_classes == 1 else 0)


# Cosines.


@wrong("cosines", "a cosine is")
class WeightsNormalisedOverClasses(Cosine):
    def cosines(self, directions, weight):
        return F.linear(directions, F.normalize(weight, dim=0))


@wrong("cosines", "a cosine is")
class FeaturesNormalisedOverTheBatch(Cosine):
    def norms_and_cosines(self, features):
        unit = F.normalize(features, dim=0)
        return features.norm(dim=1, keepdim=True), self.cosines(unit, self.weight)


@wrong("cosines", "a cosine is")
class WeightsNotNormalised(Cosine):
    def cosines(self, directions, weight):
        return F.linear(directions, weight)


@wrong("cosines", "normalised over the wrong axis")
class PlainWeightsNormalisedOverClasses(Plain):
    def scores(self, features):
        return self.s * F.linear(direction(features), F.normalize(self.weight, dim=0))


# What it keeps.


class Scheduled(Cosine):
    """A margin by a schedule, which each of these keeps in another place."""

    def target(self, cosine, norms):
        return cosine - self.m * 0.9 ** (self.moved() if self.training else 0)


@wrong("plain attributes", "self.steps is 1, and 2 one step later")
class CountsInANumber(Scheduled):
    steps = 0

    def moved(self):
        self.steps += 1
        return self.steps


@wrong("plain attributes", "self.mean[0] is")
class MeanInAList(Scheduled):
    def __init__(self, in_features, num_classes):
        super().__init__(in_features, num_classes)
        self.mean = [0.0]

    def target(self, cosine, norms):
        if self.training:
            self.mean[0] += 0.1 * (float(cosine.mean()) - self.mean[0])
        return cosine - self.m * self.mean[0]


@wrong("plain attributes", "steps is 1, and 2 one step later")
class CountsInAClosure(Scheduled):
    def __init__(self, in_features, num_classes):
        super().__init__(in_features, num_classes)
        steps = 0

        def moved():
            nonlocal steps
            steps += 1
            return steps

        self.moved = moved


@wrong("plain attributes", "one step later")
class CountsInAnIterator(Scheduled):
    def __init__(self, in_features, num_classes):
        super().__init__(in_features, num_classes)
        self.counter = itertools.count(1)

    def moved(self):
        return next(self.counter)


@wrong("plain attributes", "calls is 1, and 2 one step later")
class CountsOnItsClass(Scheduled):
    calls = 0

    def moved(self):
        CountsOnItsClass.calls += 1
        return self.calls


@wrong("plain attributes", "schedule.steps is 1, and 2 one step later")
class CountsInAnObject(Scheduled):
    class Schedule:
        steps = 0

    def __init__(self, in_features, num_classes):
        super().__init__(in_features, num_classes)
        self.schedule = self.Schedule()

    def moved(self):
        self.schedule.steps += 1
        return self.schedule.steps


STEPS = {"taken": 0}


@wrong("plain attributes", "STEPS['taken'] is")
class CountsInItsModule(Scheduled):
    def moved(self):
        STEPS["taken"] += 1
        return STEPS["taken"]


@wrong("plain attributes", "self._modules['annealing'].steps")
class CountsInAPart(Scheduled):
    class Annealing(nn.Module):
        def __init__(self):
            super().__init__()
            self.steps = np.zeros(1)

    def __init__(self, in_features, num_classes):
        super().__init__(in_features, num_classes)
        self.annealing = self.Annealing()

    def moved(self):
        self.annealing.steps += 1
        return float(self.annealing.steps[0])


@wrong("plain attributes", "the state of random")
class DrawsFromPython(Cosine):
    def target(self, cosine, norms):
        return cosine - self.m * (random.random() if self.training else 1)


@wrong("plain attributes", "the state of numpy.random")
class DrawsFromNumpy(Cosine):
    def target(self, cosine, norms):
        return cosine - self.m * (float(np.random.rand()) if self.training else 1)


@wrong("plain attributes", "training replaces the buffer 'mean'; change it in place")
class ReplacesItsBuffer(Cosine):
    def __init__(self, in_features, num_classes):
        super().__init__(in_features, num_classes)
        self.register_buffer("mean", torch.zeros(()))

    def target(self, cosine, norms):
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * cosine.detach().mean()
        return cosine - self.m * self.mean


# Effects.


@wrong("effects", "the parameter 'momentum' has no effect: losses, gradients")
class MomentumIgnored(Cosine):
    def __init__(self, in_features, num_classes, *, m: NonNegative = 0.3, momentum: Fraction = 0.1):
        super().__init__(in_features, num_classes, m=m)
        self.register_buffer("mean", torch.zeros(()))

    def target(self, cosine, norms):
        if self.training:
            self.mean.lerp_(cosine.detach().mean(), 0.1)
        return cosine - self.m * self.mean


@wrong("effects", "the parameter 's' has no effect")
class ScaleIgnored(Cosine):
    def scale(self, norms):
        return 8.0


@wrong("effects", "the parameter 'easy' has no effect: losses, gradients, test logits and")
class SwitchIgnored(Cosine):
    def __init__(self, in_features, num_classes, *, m: NonNegative = 0.3, easy: bool = False):
        super().__init__(in_features, num_classes, m=m)
        self.easy = easy


@wrong("trained weights", "neither the loss nor the test logits depend on 'idle'")
class TimesZero(Cosine):
    def __init__(self, in_features, num_classes, *, m: NonNegative = 0.3):
        super().__init__(in_features, num_classes, m=m)
        self.idle = nn.Parameter(torch.zeros(3))

    def scale(self, norms):
        return self.s + 0 * self.idle.sum()


@wrong("half precision", "the loss comes out in float64")
class DoubleLiteral(Plain):
    def loss(self, features, labels):
        return super().loss(features, labels) * torch.tensor(1.0, dtype=torch.float64)


@wrong("optimiser", "is neither parameter nor buffer")
class TensorOfOneDevice(Cosine):
    def __init__(self, in_features, num_classes, *, m: NonNegative = 0.3):
        super().__init__(in_features, num_classes, m=m)
        self.shift = torch.zeros(num_classes)


@pytest.mark.parametrize(("head", "check", "words"), WRONG)
def test_a_wrong_head_fails_by_the_property_that_it_breaks(head, check, words):
    assert_fails(head, check, words)


@pytest.mark.parametrize("head", [Cosine, Plain])
def test_the_heads_that_they_depart_from_pass(head):
    register_head("right")(head)
    assert [result for result in check_head("right") if not result.passed] == []


def test_a_parameter_may_be_declared_to_have_no_effect():
    register_head("declared")(type("Declared", (ScaleIgnored,), {"without_effect": ("s",)}))
    assert [result for result in check_head("declared") if not result.passed] == []
