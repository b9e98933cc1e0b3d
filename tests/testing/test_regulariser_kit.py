"""The kit on the built-in regularisers, and on wrong ones that depart from them in one thing."""

import pytest
import torch

from marginbench.heads.geometry import direction
from marginbench.regularisers import Regulariser, _registry, register_regulariser
from marginbench.testing import CheckFailure, check_regulariser, regulariser_checks

BUILT_IN = ("mhe", "comhe", "orthogonality", "srip")


@pytest.fixture
def scratch(monkeypatch):
    """A registry of regularisers that a test may fill."""
    _registry.names()
    for attribute in ("_entries", "_origins"):
        monkeypatch.setattr(_registry, attribute, dict(getattr(_registry, attribute)))


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_built_in_ones_keep_the_contract(name):
    for check in regulariser_checks(name):
        check()
    assert any("modes" in found.detail for found in check_regulariser("mhe", power=0))


class Right(Regulariser):
    """The length of the mean direction, which each wrong one departs from in one thing."""

    scale_invariant = True

    def penalty(self, filters, layer):
        return direction(filters).mean(dim=0).square().sum()


class NoScalar(Right):
    def penalty(self, filters, layer):
        return super().penalty(filters, layer)[None]


class Random(Right):
    def penalty(self, filters, layer):
        return super().penalty(filters, layer) * torch.rand(())


class WritesToFilters(Right):
    def renew(self, filters, iteration):
        for one in filters:
            one.mul_(2)


class Learns(Right):
    def __init__(self, layers):
        super().__init__(layers)
        self.scale = torch.nn.Parameter(torch.ones(()))


class StopsTheGradient(Right):
    def penalty(self, filters, layer):
        return (filters.detach() * filters).sum() + super().penalty(filters, layer)


class ForgetsTheShare(Right):
    def forward(self, filters):
        return torch.stack([self.penalty(one, i) for i, one in enumerate(filters)]).sum()


class DependsOnLengths(Right):
    def penalty(self, filters, layer):
        return filters.mean(dim=0).square().sum()


class DividesByZero(Right):
    def penalty(self, filters, layer):
        return (filters / filters.norm(dim=1, keepdim=True)).mean(dim=0).square().sum()


class VarianceOfOne(Right):
    """The variance over filters: of one filter it is 0/0."""

    def penalty(self, filters, layer):
        return direction(filters).var(dim=0).sum()


class StateOutsideBuffers(Right):
    def __init__(self, layers, *, weight: float = 1.0, classifier_weight: float | None = None):
        super().__init__(layers, weight=weight, classifier_weight=classifier_weight)
        self.steps = 0

    def renew(self, filters, iteration):
        self.steps += 1

    def penalty(self, filters, layer):
        return super().penalty(filters, layer) * (1 + self.steps)


class ReplacesItsBuffer(Right):
    def __init__(self, layers, *, weight: float = 1.0, classifier_weight: float | None = None):
        super().__init__(layers, weight=weight, classifier_weight=classifier_weight)
        self.register_buffer("factor", torch.ones(()))

    def renew(self, filters, iteration):
        self.factor = self.factor + 1


@pytest.mark.parametrize(
    ("wrong", "check", "words"),
    [
        (NoScalar, "value", "allowed: a finite scalar"),
        (Random, "value", "the same filters give"),
        (WritesToFilters, "value", "changes the filters"),
        (Learns, "value", "has a parameter, which no optimiser trains"),
        (StopsTheGradient, "gradients", "the gradient for the layer 'wide' is off"),
        (ForgetsTheShare, "shares", "λ times the penalties is"),
        (DependsOnLengths, "scale", "scale_invariant is declared"),
        (DividesByZero, "edges", "zero filter: "),
        (VarianceOfOne, "edges", "one filter: the value is nan"),
        (StateOutsideBuffers, "state round trip", "some state is not in state_dict()"),
        (ReplacesItsBuffer, "state round trip", "must change it in place"),
    ],
)
@pytest.mark.filterwarnings("ignore:var")
def test_a_wrong_one_fails_the_check_for_its_fault(wrong, check, words, scratch):
    register_regulariser("wrong")(wrong)
    (found,) = (one for one in regulariser_checks("wrong") if one.name == check)
    with pytest.raises(CheckFailure) as failure:
        found()
    assert words in str(failure.value)


def test_the_right_one_fails_none(scratch):
    register_regulariser("right")(Right)
    assert [found.name for found in check_regulariser("right") if not found.passed] == []
