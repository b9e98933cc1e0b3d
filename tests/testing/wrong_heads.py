"""What wrong heads depart from in one thing."""

from typing import Literal

import pytest
import torch

from marginbench.heads import CosineHead, WithoutMargin, register_head
from marginbench.plugins.parameters import MarginGradient, NonNegative, Positive
from marginbench.testing import head_checks


class Right(CosineHead):
    """The additive margin on the cosine, that each wrong head departs from in one thing."""

    without_margin = WithoutMargin({"m": 0.0}, "normface", {"s": 8.0})

    def __init__(
        self,
        in_features,
        num_classes,
        *,
        m: NonNegative = 0.3,
        s: Positive = 8.0,
        grad: MarginGradient = "exact",
    ):
        super().__init__(in_features, num_classes, s=s, grad=grad)
        self.m = m

    def psi(self, cosine):
        return cosine - self.m


class WithKinds(Right):
    """The same in two kinds, the second of which a wrong head may get wrong."""

    def __init__(self, in_features, num_classes, *, kind: Literal["a", "b"] = "a", **rest):
        super().__init__(in_features, num_classes)
        self.kind = kind


class WrongSlope(torch.autograd.Function):
    @staticmethod
    def forward(context, value):
        return value.clone()

    @staticmethod
    def backward(context, gradient):
        return 1.5 * gradient


def collected():
    """A list of wrong heads, and the class decorator that adds one to it.

    The decorator takes the check that must fail and what its message must say.
    """
    heads = []

    def wrong(check, words):
        def add(head):
            heads.append(pytest.param(head, check, words, id=head.__name__))
            return head

        return add

    return heads, wrong


def assert_fails(head, check, words):
    """The check must fail of the head, with these words in its message."""
    register_head("wrong")(head)
    (found,) = (one for one in head_checks("wrong") if one.name == check)
    result = found.run()
    assert not result.passed
    assert words in result.detail
