"""The quickstart: every core head on real images, in minutes on two CPU cores."""

from __future__ import annotations

from dataclasses import replace

from marginbench import Optimiser, Schedule, Search, component, grid, suite
from marginbench.experiments.cells import Cell
from marginbench.plugins.component import Component

SEEDS = 8
"""Enough for most heads to be decided against softmax on the ten digits."""

SEARCH = Search(seeds=3)
"""A tenth of the training images are 90, of which one is 1.1 % of error: with one seed, half of a
head's sixteen trials were level. The plane of ``digits`` is for drawing, and not searched."""


def heads(
    iterations: int, lambda_min: float, additive_margin: dict[str, float], *, few: bool
) -> list[Component]:
    """The core heads but hinge, with λ falling over the whole run.

    λ's course is that of the authors' MNIST setting: 1000·(1 + 2.5e-5·30,000)^−35 at the end.

    Args:
        iterations: of the run.
        lambda_min: λ's floor.
        additive_margin: m and s of AM-Softmax and ArcFace.
        few: one head of each kind, and L-Softmax's smallest and largest margin.
    """
    annealing = {
        "lambda_base": 1000.0,
        "lambda_gamma": 0.75 / iterations,
        "lambda_power": 35.0,
        "lambda_min": lambda_min,
    }
    margins = (2, 4) if few else (2, 3, 4)
    angular = () if few else margins
    return [
        component("softmax"),
        component("contrastive"),
        *(component("l-softmax", m=m, **annealing) for m in margins),
        *(component("a-softmax", m=m, **annealing) for m in angular),
        component("am-softmax", **additive_margin),
        component("arcface", **additive_margin),
    ]


def schedule(iterations: int, evaluations: int) -> Schedule:
    """Batches of 64; the learning rate falls tenfold after 2/3 and 5/6, as in the paper."""
    milestones = (iterations * 2 // 3, iterations * 5 // 6)
    return Schedule(
        iterations=iterations,
        batch_size=64,
        milestones=milestones,
        factor=0.1,
        evaluations=evaluations,
    )


@suite(
    "digits",
    description="all core heads on scikit-learn's 8×8 digits: closed set, 2-D features, open set",
    seeds=SEEDS,
    search=replace(SEARCH, settings=("ten digits", "open set")),
    equal_within=0.005,
)
def digits(seeds: list[int]) -> list[Cell]:
    """Three settings; the last two with one head of each kind, so that there is time for seeds.

    Closed set: ten digits, 32-D features. 2-D: features that can be drawn, one seed; a longer run
    and a floor for λ, since two dimensions leave ten classes so little room that at m = 4 they
    end up on one another; without the hinge losses, whose ten one-vs-rest problems two dimensions
    cannot solve. Open set: trained on six digits, verified on pairs of the other four.
    """
    return [
        *_many_dimensions("ten digits", component("digits"), seeds),
        *grid(
            setting="2-D features",
            data="digits",
            backbone=component("small", features=2, normalise_features=False),
            head=heads(600, 1.0, {"m": 0.1, "s": 4.0}, few=True),
            seed=seeds[:1],
            optimiser=Optimiser(learning_rate=0.05),
            schedule=schedule(600, evaluations=10),
            execution="fused",
        ),
        *_open_set(seeds, few=True),
    ]


@suite(
    "digits-open",
    description="verification on four digits that were not trained on, with every core head",
    sections=("verification", "comparison", "overfitting", "account"),
    search=SEARCH,
    equal_within=0.005,
)
def digits_open(seeds: list[int]) -> list[Cell]:
    """The open set of ``digits`` by itself: trained on six, verified on pairs of the other four."""
    return _open_set(seeds)


def _open_set(seeds: list[int], *, few: bool = False) -> list[Cell]:
    data = component("digits", left_out=[6, 7, 8, 9])
    return _many_dimensions("open set", data, seeds, few=few)


def _many_dimensions(
    setting: str, data: Component, seeds: list[int], *, few: bool = False
) -> list[Cell]:
    # Ten classes want a small scale: with the faces' s = 64 these heads fall below softmax.
    softmax, *others = heads(200, 0.0, {"m": 0.3, "s": 10.0}, few=few)
    hinge = [] if few else [component("hinge"), component("hinge", norm="L2")]
    return grid(
        setting=setting,
        data=data,
        backbone="small",
        head=[softmax, *hinge, *others],
        optimiser=Optimiser(learning_rate=0.02),
        schedule=schedule(200, evaluations=8),
        seed=seeds,
        execution="fused",
    )
