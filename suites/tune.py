"""Learning rate, margin, scale and λ's course, chosen on a split of the training set.

The test set is never used: the data's ``validation`` is "held-out", the paper's 45k/5k. What
these suites find best is what a user may put into the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from marginbench import component, suite
from marginbench.experiments.cells import Cell
from marginbench.plugins.component import Component

from . import cifar10, cifar100, mnist
from .paper import (
    CIFAR10_ANNEALING,
    CIFAR10_PLUS_ANNEALING,
    MNIST_ANNEALING,
    PAPER_BUDGET,
    SLOW_ANNEALING,
    SMALL,
    Annealing,
    Budget,
    cells,
)

LEARNING_RATES = (0.2, 0.1, 0.05, 0.02)
SMALL_LEARNING_RATES = (0.025, 0.0125)
LAMBDA_FLOORS = (0.0, 0.5, 5.0)
SMALL_LAMBDA_FLOORS = (0.0, 5.0)
# The paper publishes no course of λ for CIFAR-100, so there it is a choice like the others.
CIFAR100_COURSES = (CIFAR10_ANNEALING, CIFAR10_PLUS_ANNEALING)
SMALL_CIFAR_COURSES = (CIFAR10_ANNEALING, SLOW_ANNEALING)
HELD_OUT_OF_TEN_CLASSES = 500
"""All that CIFAR-100 has: a tenth of 500 training images for each of ten classes."""
SECTIONS = ("tuning", "account")


def _grid(
    data: str,
    backbone: str,
    budget: Budget,
    courses: tuple[Annealing, ...],
    scales: tuple[float, ...],
    small: bool,
) -> Callable[[list[int]], list[Cell]]:
    """Seeds → cells: each head at each learning rate, margins and scales within."""

    def heads() -> list[Component]:
        multiplicative = [
            component("l-softmax", m=m, **course.parameters(replace(budget, lambda_min=floor)))
            for m in ((4,) if small else (2, 3, 4))
            for course in courses
            for floor in (SMALL_LAMBDA_FLOORS if small else LAMBDA_FLOORS)
        ]
        additive = [
            component(name, m=m, s=s)
            for name in ("am-softmax", "arcface")
            for m in ((0.3,) if small else (0.1, 0.2, 0.3, 0.4))
            for s in scales
        ]
        return [component("softmax"), component("hinge"), *multiplicative, *additive]

    def make(seeds: list[int]) -> list[Cell]:
        return [
            cell
            for rate in (SMALL_LEARNING_RATES if small else LEARNING_RATES)
            for cell in cells(
                f"{data}, held-out images, learning rate {rate:g}",
                replace(budget, learning_rate=rate),
                data=data,
                backbone=backbone,
                head=heads(),
                seeds=seeds,
                data_parameters={"validation": "held-out"},
            )
        ]

    return make


def _small(budget: Budget, held_out: int) -> Budget:
    """Few evaluations; so many held-out images of a part of the training set."""
    data = tuple(item for item in budget.data if item[0] != "test_count")
    return replace(budget, data=(*data, ("test_count", held_out)), evaluations=2)


@suite(
    "tune-mnist",
    description="learning rate, margin, scale and λ's course on MNIST, by held-out images",
    needs=mnist.NEEDS,
    seeds=1,
    sizes={SMALL: 1},
    sections=SECTIONS,
)
def tune_mnist(seeds: list[int], size: str) -> list[Cell]:
    """For the suite ``mnist``."""
    small = size == SMALL
    budget = _small(mnist.SMALL_MNIST, 1_000) if small else PAPER_BUDGET
    scales = (8.0, 16.0) if small else (8.0, 10.0, 16.0, 30.0)
    return _grid("mnist", "mnist", budget, (MNIST_ANNEALING,), scales, small)(seeds)


@suite(
    "tune-cifar10",
    description="the same on CIFAR-10",
    needs=cifar10.NEEDS,
    seeds=1,
    sizes={SMALL: 1},
    sections=SECTIONS,
)
def tune_cifar10(seeds: list[int], size: str) -> list[Cell]:
    """For the suite ``cifar10``."""
    small = size == SMALL
    budget = _small(cifar10.SMALL_CIFAR10, 1_000) if small else PAPER_BUDGET
    scales = (8.0, 16.0) if small else (8.0, 10.0, 16.0, 30.0)
    courses = SMALL_CIFAR_COURSES if small else (CIFAR10_ANNEALING,)
    return _grid("cifar10", "cifar10", budget, courses, scales, small)(seeds)


@suite(
    "tune-cifar100",
    description="the same on CIFAR-100",
    needs=cifar100.NEEDS,
    seeds=1,
    sizes={SMALL: 1},
    sections=SECTIONS,
)
def tune_cifar100(seeds: list[int], size: str) -> list[Cell]:
    """For the suites ``cifar100`` and ``fig6``."""
    small = size == SMALL
    budget = _small(cifar100.SMALL_CIFAR100, HELD_OUT_OF_TEN_CLASSES) if small else PAPER_BUDGET
    scales = (16.0, 30.0) if small else (12.0, 16.0, 24.0, 30.0, 64.0)
    courses = SMALL_CIFAR_COURSES if small else CIFAR100_COURSES
    return _grid("cifar100", "cifar100", budget, courses, scales, small)(seeds)
