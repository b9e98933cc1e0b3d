"""Omniglot: trained on some alphabets, tested on the characters of others."""

from __future__ import annotations

from marginbench import Optimiser, Schedule, component, grid, suite
from marginbench.experiments.cells import Cell

# 20 drawings of a character: a class needs several in a batch for the pair losses.
SCALE, MARGIN = 16.0, 0.2


@suite(
    "omniglot",
    description="alphabets that were not trained on: verification, retrieval, one-shot",
    needs="Omniglot (15 MB, fetched on first use); small: its two minimal background sets",
    seeds=5,
    sizes={"small": 2},
    sections=("verification", "one-shot", "comparison", "overfitting", "account"),
    equal_within=0.005,
)
def omniglot(seeds: list[int], size: str) -> list[Cell]:
    """Batches of 16 characters, 4 drawings of each, for every head alike."""
    small = size == "small"
    iterations = 500 if small else 5_000
    return grid(
        setting="Omniglot, minimal sets" if small else "Omniglot",
        data=component("omniglot", sets="minimal" if small else "official"),
        backbone=component("small", widths=[8, 16, 32] if small else [32, 64, 128], features=64),
        head=[
            component("softmax"),
            component("normface", s=SCALE),
            component("am-softmax", m=MARGIN, s=SCALE),
            component("arcface", m=MARGIN, s=SCALE),
            component("contrastive"),
            component("triplet"),
        ],
        optimiser=Optimiser(learning_rate=0.05),
        schedule=Schedule(
            iterations=iterations,
            batch_size=64,
            milestones=(iterations * 2 // 3, iterations * 5 // 6),
            evaluations=5,
            sampling="pairs",
            samples_per_class=4,
        ),
        seed=seeds,
        execution="eager",
    )
