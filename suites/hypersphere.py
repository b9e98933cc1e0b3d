"""What a margin gives beside the other parts of hyperspherical learning, and they beside it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

from marginbench import Optimiser, component, grid, suite
from marginbench.experiments.cells import Cell
from marginbench.plugins.component import Component

from .paper import (
    CIFAR10_ANNEALING,
    MNIST_ANNEALING,
    PAPER_BUDGET,
    SMALL,
    SMALL_SIZE,
    Annealing,
    Budget,
    optimiser,
    schedule,
)

DIGITS = Budget(iterations=250, batch_size=64, evaluations=5, learning_rate=0.02)
"""Of the suite ``digits``."""

TOGETHER = 2
"""So many parts differ from the baseline's at most: with each one alone and each two together, main
effects and interactions of two can be told apart, in 32 of the 72 combinations."""

REGULARISERS: Mapping[str, Component | None] = {
    "": None,
    "orthogonality": component("orthogonality", weight=1e-3),
    "MHE": component("mhe", weight=1.0, power=2),
    "CoMHE": component("comhe", weight=1.0, power=2),
}
CONVOLUTIONS: Mapping[str, dict[str, Any]] = {
    "": {},
    "SphereConv": {"conv": "sphere", "angular": "cosine"},
    "decoupled": {"conv": "decoupled", "magnitude": "tanh"},
}
TRAININGS = {"": "standard", "OPT": "opt"}


def heads(annealing: Annealing, budget: Budget) -> list[Component]:
    """Softmax, the baseline; A-Softmax; L-Softmax."""
    course = annealing.parameters(budget)
    return [
        component("softmax"),
        *(component(n, m=2, **course) for n in ("a-softmax", "l-softmax")),
    ]


def fraction(
    setting: str,
    budget: Budget,
    rows: list[Component],
    backbone: str,
    solver: Optimiser,
    **fields: Any,
) -> list[Cell]:
    """The combinations that differ from the first of every list in at most two places."""
    choices = product(REGULARISERS, CONVOLUTIONS, TRAININGS)
    cells = []
    for names in choices:
        departures = [name for name in names if name]
        left = TOGETHER - len(departures)
        if left < 0:
            continue
        regulariser, convolution, training = names
        cells += grid(
            setting=f"{setting}: {' + '.join(departures) or 'standard'}",
            backbone=component(backbone, **CONVOLUTIONS[convolution]),
            # With two other departures the head stays the baseline's.
            head=rows if left else rows[:1],
            regulariser=REGULARISERS[regulariser],
            training=TRAININGS[training],
            optimiser=solver,
            schedule=schedule(budget),
            **fields,
        )
    return cells


@suite(
    "hypersphere",
    description="softmax, A- and L-Softmax × regularisers × convolutions × training, a fraction",
    needs="CIFAR-100 (161 MB, fetched on first use) and a GPU; small: nothing beyond the package",
    seeds=5,
    sizes=SMALL_SIZE,
    sections=("hypersphere", "account"),
    equal_within=0.005,
)
def hypersphere(seeds: list[int], size: str) -> list[Cell]:
    """On ten digits; in full on CIFAR-100 with Table 4's network and schedule too."""
    digits = fraction(
        "ten digits",
        DIGITS,
        heads(MNIST_ANNEALING, DIGITS),
        "small",
        optimiser(DIGITS),
        data="digits",
        execution="fused",
        seed=seeds,
    )
    if size == SMALL:
        return digits
    return [
        *digits,
        *fraction(
            "CIFAR100",
            PAPER_BUDGET,
            heads(CIFAR10_ANNEALING, PAPER_BUDGET),
            "cifar100",
            optimiser(PAPER_BUDGET),
            data="cifar100",
            execution="eager",
            seed=seeds,
        ),
    ]
