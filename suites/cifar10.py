"""CIFAR-10 with and without augmentation: Table 3 of Liu et al., ICML 2016."""

from __future__ import annotations

from marginbench import suite
from marginbench.experiments.cells import Cell

from .paper import (
    CIFAR10_ANNEALING,
    CIFAR10_PLUS_ANNEALING,
    PAPER_BUDGET,
    SLOW_ANNEALING,
    SMALL,
    SMALL_CIFAR_LEARNING_RATE,
    TWO_SEEDS,
    Annealing,
    Augmentation,
    Budget,
    cells,
    further_rows,
    paper_rows,
)

NEEDS = "CIFAR-10 (163 MB, fetched on first use); full: a GPU"

# As for MNIST: ten classes.
MARGIN, SCALE = 0.3, 10.0

# As CIFAR-100's, which see; like there, the paper's rows only.
SMALL_CIFAR10 = Budget(
    iterations=1_000,
    batch_size=32,
    evaluations=4,
    data=(("train_count", 1_000), ("test_count", 2_000)),
    backbone=(("width", 0.1875), ("features", 64)),
    learning_rate=SMALL_CIFAR_LEARNING_RATE,
    note=", small size",
)


@suite(
    "cifar10",
    description="Table 3, CIFAR10: the paper's rows and the heads beyond it, no augmentation",
    needs=NEEDS,
    seeds=5,
    sizes=TWO_SEEDS,
    equal_within=0.005,
)
def cifar10(seeds: list[int], size: str) -> list[Cell]:
    """Table 3's first column."""
    return _table3("CIFAR10 (Table 3)", CIFAR10_ANNEALING, "none", seeds, size)


@suite(
    "cifar10+",
    description="Table 3, CIFAR10+: the same with random crops and flips",
    needs=NEEDS,
    seeds=5,
    sizes=TWO_SEEDS,
    equal_within=0.005,
)
def cifar10_plus(seeds: list[int], size: str) -> list[Cell]:
    """Table 3's second column: pad 4, random crop, flip."""
    return _table3("CIFAR10+ (Table 3)", CIFAR10_PLUS_ANNEALING, "crop-flip", seeds, size)


def _table3(
    setting: str, course: Annealing, augmentation: Augmentation, seeds: list[int], size: str
) -> list[Cell]:
    budget = SMALL_CIFAR10 if size == SMALL else PAPER_BUDGET
    annealing = (SLOW_ANNEALING if size == SMALL else course).parameters(budget)
    rows = paper_rows(annealing)
    if size != SMALL:
        rows += further_rows(annealing, MARGIN, SCALE)
    return cells(
        setting,
        budget,
        data="cifar10",
        backbone="cifar10",
        head=rows,
        seeds=seeds,
        augmentation=augmentation,
    )
