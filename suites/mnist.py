"""MNIST: Table 2 of Liu et al., ICML 2016, and Fig. 2's features in the plane."""

from __future__ import annotations

from marginbench import suite
from marginbench.experiments.cells import Cell

from .paper import (
    MNIST_ANNEALING,
    PAPER_BUDGET,
    SLOW_ANNEALING,
    SMALL,
    SMALL_LEARNING_RATE,
    SMALL_SIZE,
    TWO_SEEDS,
    Budget,
    cells,
    further_rows,
    margin_rows,
    paper_rows,
)

NEEDS = "MNIST (11 MB, fetched on first use)"

# Ten classes need no large scale: log(9·0.999/0.001), about 9.1, lets a softmax over cosines
# reach 99.9 % (Wang et al., NormFace, 2017, Prop. 2).
MARGIN, SCALE = 0.3, 10.0

# Few training images, so that the small network can overfit: that is what a margin is to prevent.
SMALL_MNIST = Budget(
    iterations=500,
    batch_size=64,
    evaluations=4,
    data=(("train_count", 3_000), ("test_count", 5_000)),
    backbone=(("width", 0.125), ("features", 64)),
    learning_rate=SMALL_LEARNING_RATE,
    note=", small size",
)
SMALL_PLANE = Budget(
    iterations=1_500,
    batch_size=64,
    evaluations=4,
    data=(("train_count", 20_000),),
    backbone=(("width", 0.25),),
    learning_rate=SMALL_LEARNING_RATE,
    note=", small size",
)


@suite(
    "mnist",
    description="Table 2: hinge, softmax, L-Softmax m = 2, 3, 4, and the heads beyond the paper",
    needs=NEEDS,
    seeds=5,
    sizes=SMALL_SIZE,
    equal_within=0.001,
)
def mnist(seeds: list[int], size: str) -> list[Cell]:
    """Table 2's rows with its network and schedule, and every other head beside them."""
    budget = SMALL_MNIST if size == SMALL else PAPER_BUDGET
    annealing = MNIST_ANNEALING.parameters(budget)
    rows = paper_rows(annealing)
    rows += further_rows(annealing, MARGIN, SCALE, every_other=size != SMALL)
    return cells("MNIST (Table 2)", budget, data="mnist", backbone="mnist", head=rows, seeds=seeds)


@suite(
    "fig2",
    description="Fig. 2: features in the plane on MNIST, m = 1 to 4",
    needs=NEEDS,
    seeds=5,
    sizes=TWO_SEEDS,
    sections=("published", "features", "comparison", "overfitting", "account"),
    equal_within=0.001,
)
def fig2(seeds: list[int], size: str) -> list[Cell]:
    """The network of Fig. 2, softmax and L-Softmax m = 2, 3, 4."""
    budget = SMALL_PLANE if size == SMALL else PAPER_BUDGET
    # In two dimensions a margin that comes too soon leaves classes on top of one another.
    course = SLOW_ANNEALING if size == SMALL else MNIST_ANNEALING
    rows = margin_rows(course.parameters(budget))
    setting = "MNIST, 2-D features (Fig. 2)"
    return cells(setting, budget, data="mnist", backbone="mnist-fig2", head=rows, seeds=seeds)
