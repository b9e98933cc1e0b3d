"""Right heads that are unusual: the kit finds no fault in them."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from marginbench.heads import CosineHead, Head, WithoutMargin, classifier_weight, register_head
from marginbench.heads.geometry import direction
from marginbench.plugins.parameters import Fraction, NonNegative, Positive
from marginbench.testing import check_head
from tests.testing.wrong_heads import Right

pytestmark = pytest.mark.usefixtures("scratch_registry")

HEADS = []


def right(head):
    HEADS.append(head)
    return head


@right
class MarginOfEachClass(CosineHead):
    """In a buffer that checkpoints carry, larger for the later classes."""

    def __init__(self, in_features, num_classes, *, m: NonNegative = 0.3, s: Positive = 8.0):
        super().__init__(in_features, num_classes, s=s)
        self.register_buffer("margins", m * torch.linspace(0.5, 1.5, num_classes))

    def psi(self, cosine):
        return cosine - self.margins.mean()

    def target_of_class(self, cosine, norms, labels):
        return cosine - self.margins[labels, None]


@right
class DeclaredMarginOfEachClass(MarginOfEachClass):
    without_margin = WithoutMargin({"m": 0.0}, "normface", {"s": 8.0})


@right
class RandomMarginOfEachClass(MarginOfEachClass):
    """Drawn once: a constant that belongs to the head and is saved with it."""

    def __init__(self, in_features, num_classes, *, m: NonNegative = 0.3, s: Positive = 8.0):
        super().__init__(in_features, num_classes, m=m, s=s)
        self.margins.copy_(m * (torch.rand(num_classes) + 0.5))


@right
class LearntMargin(CosineHead):
    """A margin of each class that is learnt, from m on."""

    def __init__(self, in_features, num_classes, *, m: NonNegative = 0.3):
        super().__init__(in_features, num_classes, s=8.0, learn_s=True)
        self.margins = nn.Parameter(torch.full((num_classes,), m))

    def psi(self, cosine):
        return cosine - self.margins.mean()

    def target_of_class(self, cosine, norms, labels):
        return cosine - self.margins[labels, None]


@right
class WeightsDrawnToUnitLength(Right):
    softmax_over_classes = True
    without_margin = None

    def loss(self, features, labels):
        away = self.weight.norm(dim=1) - 1
        return super().loss(features, labels) + 0.1 * away.square().mean()


@right
class WeightsOfTheBatchDrawnToUnitLength(Right):
    softmax_over_classes = True
    without_margin = None

    def loss(self, features, labels):
        away = self.weight[labels].norm(dim=1) - 1
        return super().loss(features, labels) + 0.1 * away.square().mean()


@right
class RunningMeans(Head):
    """Drawn to the running mean of its class, which `+=` moves after the loss has read it."""

    def __init__(self, in_features, num_classes, *, pull: NonNegative = 0.1):
        super().__init__(in_features, num_classes)
        self.weight = classifier_weight(num_classes, in_features)
        self.pull = pull
        self.register_buffer("mean", torch.zeros(num_classes, in_features))

    def loss(self, features, labels):
        away = features - self.mean[labels]
        if self.training:
            with torch.no_grad():
                for k in labels.unique():
                    self.mean[k] += 0.1 * (features[labels == k].mean(dim=0) - self.mean[k])
        cross_entropy = F.cross_entropy(self.scores(features), labels)
        return cross_entropy + self.pull * away.square().sum(dim=1).mean()

    def scores(self, features):
        return F.linear(features, self.weight)


@right
class RunningMeansFirst(RunningMeans):
    """The same, moved before the loss reads it: declared as left out of the gradient."""

    @property
    def gradient_leaves_out(self):
        return "the running means" if self.training else ""

    def loss(self, features, labels):
        if self.training:
            with torch.no_grad():
                for k in labels.unique():
                    self.mean[k] += 0.1 * (features[labels == k].mean(dim=0) - self.mean[k])
        away = features - self.mean[labels]
        cross_entropy = F.cross_entropy(self.scores(features), labels)
        return cross_entropy + self.pull * away.square().sum(dim=1).mean()


@right
class MemoryOfFeatures(RunningMeansFirst):
    """Drawn to the last feature of its class, the batch's own among them."""

    def loss(self, features, labels):
        if self.training:
            with torch.no_grad():
                places = labels[:, None].expand_as(features)
                self.mean.scatter_reduce_(0, places, direction(features), "mean")
        near = (direction(features) * self.mean[labels]).sum(dim=1)
        return F.cross_entropy(self.scores(features), labels) - self.pull * near.mean()


@right
class AnnealedByABuffer(CosineHead):
    def __init__(self, in_features, num_classes, *, m: NonNegative = 0.3, rate: Fraction = 0.9):
        super().__init__(in_features, num_classes, s=8.0)
        self.m, self.rate = m, rate
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def psi(self, cosine):
        return cosine - self.m

    def target(self, cosine, norms):
        self.steps += int(self.training)
        return cosine - self.m * (1 - self.rate**self.steps)


@right
class LearntScale(CosineHead):
    def __init__(self, in_features, num_classes, *, m: NonNegative = 0.3, s: Positive = 8.0):
        super().__init__(in_features, num_classes, s=s)
        self.m = m
        self.log_scale = nn.Parameter(torch.tensor(s).log())

    def psi(self, cosine):
        return cosine - self.m

    def scale(self, norms):
        return self.log_scale.exp()


@right
class Biased(Head):
    """A linear classifier with a bias and smoothed labels."""

    def __init__(self, in_features, num_classes, *, epsilon: Fraction = 0.1):
        super().__init__(in_features, num_classes)
        self.weight = classifier_weight(num_classes, in_features)
        self.bias = nn.Parameter(torch.zeros(num_classes))
        self.epsilon = epsilon

    def loss(self, features, labels):
        scores = self.scores(features)
        return F.cross_entropy(scores, labels, label_smoothing=self.epsilon)

    def scores(self, features):
        return F.linear(features, self.weight, self.bias)


@right
class LinearLayer(Head):
    """Its weights are a part's, under another name."""

    def __init__(self, in_features, num_classes):
        super().__init__(in_features, num_classes)
        self.classifier = nn.Linear(in_features, num_classes)

    def classifier_weights(self):
        return self.classifier.weight

    def loss(self, features, labels):
        return F.cross_entropy(self.scores(features), labels)

    def scores(self, features):
        return self.classifier(features)


@right
class Dropping(Right):
    def norms_and_cosines(self, features):
        return super().norms_and_cosines(F.dropout(features, 0.3, self.training))


@right
class MeanOfSubcenters(CosineHead):
    """Two centres a class; a sample belongs to both, softly."""

    def __init__(self, in_features, num_classes, *, m: NonNegative = 0.2):
        super().__init__(in_features, num_classes, s=8.0)
        self.m = m
        centres = classifier_weight(2 * num_classes, in_features).data
        self.weight = nn.Parameter(centres.view(num_classes, 2, in_features))

    def psi(self, cosine):
        return cosine - self.m

    def cosines(self, directions, weight):
        found = torch.einsum("nd,kcd->nkc", directions, direction(weight))
        return (found.softmax(dim=2) * found).sum(dim=2)


@right
class MarginGrowsWithTheNorm(CosineHead):
    def __init__(self, in_features, num_classes, *, m: NonNegative = 0.3):
        super().__init__(in_features, num_classes, s=8.0)
        self.m = m

    def psi(self, cosine):
        return cosine - self.m

    def target(self, cosine, norms):
        return cosine - self.m * norms / (norms + 1)


@right
class ScaleByTheNumberOfClasses(CosineHead):
    """The fixed scale of AdaCos, which two classes are too few for."""

    def __init__(self, in_features, num_classes):
        super().__init__(in_features, num_classes, s=2**0.5 * max(num_classes - 1, 2) ** 0.5)

    def psi(self, cosine):
        return cosine


@right
class BatchNormalised(Head):
    """The features' batch statistics are taken out before the classifier."""

    def __init__(self, in_features, num_classes, *, momentum: Fraction = 0.1):
        super().__init__(in_features, num_classes)
        self.weight = classifier_weight(num_classes, in_features)
        self.momentum = momentum
        self.register_buffer("centre", torch.zeros(in_features))

    def loss(self, features, labels):
        if self.training:
            self.centre.lerp_(features.detach().mean(dim=0), self.momentum)
        return F.cross_entropy(self.scores(features), labels)

    def scores(self, features):
        return F.linear(features - self.centre, self.weight)

    @property
    def gradient_leaves_out(self):
        return "the centre" if self.training else ""


@right
class PrototypesByDistance(Head):
    """Softmax of minus the squared distance to each class's prototype."""

    def __init__(self, in_features, num_classes, *, temperature: Positive = 10.0):
        super().__init__(in_features, num_classes)
        self.weight = classifier_weight(num_classes, in_features)
        self.temperature = temperature

    def loss(self, features, labels):
        return F.cross_entropy(self.scores(features), labels)

    def scores(self, features):
        products = F.linear(features, self.weight)
        lengths = features.square().sum(dim=1, keepdim=True) + self.weight.square().sum(dim=1)
        return (2 * products - lengths) / self.temperature


@right
class Sigmoids(Head):
    """A binary problem for each class, with a prior that balances them."""

    def __init__(self, in_features, num_classes):
        super().__init__(in_features, num_classes)
        self.weight = classifier_weight(num_classes, in_features)
        self.bias = nn.Parameter(torch.full((), -1.0))

    def loss(self, features, labels):
        scores = self.scores(features)
        own = F.one_hot(labels, self.num_classes).to(scores.dtype)
        return F.binary_cross_entropy_with_logits(scores, own, reduction="none").sum(1).mean()

    def scores(self, features):
        return F.linear(features, self.weight) + self.bias


@pytest.mark.parametrize("head", HEADS, ids=lambda head: head.__name__)
def test_a_right_head_fails_nothing(head):
    register_head("right")(head)
    assert [result for result in check_head("right") if not result.passed] == []
