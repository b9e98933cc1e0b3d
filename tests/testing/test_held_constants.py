"""What a head moves in place without gradient is held constant in the check of its gradients."""

import pytest
import torch
from torch.nn import functional as F

from marginbench.heads import Head, classifier_weight, register_head
from marginbench.testing import head_checks
from tests.testing.wrong_heads import WrongSlope

pytestmark = pytest.mark.usefixtures("scratch_registry")


def add_to_rows(mean, features, labels):
    for k in range(len(mean)):
        mean[k] += 0.1 * (features[labels == k].sum(dim=0) - mean[k])


def add_to_views(mean, features, labels):
    for k, row in enumerate(mean.unbind()):
        row.mul_(0.9).add_(0.1 * features[labels == k].sum(dim=0))


def add_to_a_slice(mean, features, labels):
    view = mean[: len(mean)]
    view += 0.1 * features[: len(mean)]


def set_rows(mean, features, labels):
    mean[labels] = features


def multiply_and_subtract(mean, features, labels):
    mean *= 0.9
    mean -= 0.1 * features.mean(dim=0)


def put_by_index(mean, features, labels):
    mean.index_put_((labels,), features, accumulate=True)


def scatter(mean, features, labels):
    mean.scatter_add_(0, labels[:, None].expand_as(features), features)


def write_out(mean, features, labels):
    torch.mul(mean, features.mean(), out=mean)
    torch.add(mean, features[0], out=mean)


def write_to_its_data(mean, features, labels):
    mean.data += features.data.mean(dim=0)


def move_several(mean, features, labels):
    torch._foreach_lerp_([mean], [features[: len(mean)]], 0.1)


def take_the_largest(mean, features, labels):
    largest, where = features.max(dim=1)
    mean.index_add_(0, labels, largest[:, None] * features[where % len(features)])


WAYS = [
    *(add_to_rows, add_to_views, add_to_a_slice, set_rows, multiply_and_subtract, put_by_index),
    *(scatter, write_out, write_to_its_data, move_several, take_the_largest),
]


class Drawn(Head):
    """Drawn to a mean that the batch has moved before."""

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__(in_features, num_classes)
        self.weight = classifier_weight(num_classes, in_features)
        self.register_buffer("mean", torch.ones(num_classes, in_features))

    @property
    def gradient_leaves_out(self):
        return "the running mean" if self.training else ""

    def loss(self, features, labels):
        if self.training:
            with torch.no_grad():
                self.move(self.mean, features, labels)
        away = features - self.mean[labels]
        return F.cross_entropy(self.scores(features), labels) + 0.1 * away.square().sum(1).mean()

    def scores(self, features):
        return F.linear(features, self.weight)


def gradients_of(way, **members):
    register_head("drawn")(type("OneWay", (Drawn,), {"move": staticmethod(way), **members}))
    (check,) = (check for check in head_checks("drawn") if check.name == "gradients")
    return check.run()


@pytest.mark.parametrize("way", WAYS)
def test_what_is_declared_is_held_however_it_is_moved(way):
    result = gradients_of(way)
    assert result.passed, result.detail


@pytest.mark.parametrize("way", WAYS)
def test_what_is_not_declared_is_off(way):
    assert "is off by" in gradients_of(way, gradient_leaves_out="").detail


@pytest.mark.parametrize("way", [add_to_rows, add_to_views, set_rows])
def test_another_wrong_slope_is_still_found(way):
    def scores(self, features):
        return F.linear(WrongSlope.apply(features) if self.training else features, self.weight)

    assert "is off by" in gradients_of(way, scores=scores).detail
