"""Faces: LFW by its own protocols, and Table 5 of Liu et al., ICML 2016.

All heads of a comparison see the same batches, so all get the batches that the pair losses need:
some people, and several images of each.
"""

from __future__ import annotations

from typing import Any

from marginbench import Optimiser, Schedule, component, grid, suite
from marginbench.experiments.cell_fields import Verification
from marginbench.experiments.cells import Cell
from marginbench.plugins.component import Component

from .paper import SMALL, Annealing, Budget

NEEDS_LFW = "LFW in the data folder (docs/faces.md)"
SETS = range(1, 11)
SECTIONS = ("verification", "overfitting", "account")

FACE_ANNEALING = Annealing(3360.0, 1.0)
"""λ = 1000/(1 + 0.12·t) over 28,000 iterations: SphereFace's, by the same authors, who publish none
for L-Softmax on faces. Its floor is 5."""

SMALL_ANNEALING = Annealing(0.25, 45.0)
"""In a run of a thousand steps that course would reach its floor after 60, before the features
are worth anything: m = 2 then stayed at chance (measured), and nearly so where λ falls as 1/t to
reach 5 half-way. This one stays above 100 for a fifth of the run, and reaches 5 half-way."""

LAMBDA_FLOOR = 5.0

IMAGES_A_PERSON = 4
"""In a batch. People with fewer than two images make no pairs, and are not trained on."""

CHOSEN_BY_VIEW_1 = Verification(mirror="sum", centre=True)

FULL_LFW = Budget(
    iterations=4_000,
    batch_size=256,
    evaluations=8,
    data=(("crop", 112), ("size", 112), ("minimum_images", 2)),
    lambda_min=LAMBDA_FLOOR,
)
SMALL_LFW = Budget(
    iterations=1_000,
    batch_size=64,
    evaluations=5,
    # Of all 1,061 people with two images or more, a thousand steps learn nothing (measured).
    data=(("crop", 112), ("size", 64), ("train_people", 200)),
    backbone=(("width", 0.125), ("features", 128), ("activate_features", True)),
    learning_rate=0.05,
    lambda_min=LAMBDA_FLOOR,
    note=", small size",
)


def _heads(budget: Budget, *, few: bool) -> list[Component]:
    """The rows of a face suite; few: those that half an hour on two CPU cores has room for."""
    if few:
        annealing = SMALL_ANNEALING.parameters(budget)
        # log(199·0.999/0.001) is 12.2: the least scale that lets a softmax over the cosines of 200
        # people reach 99.9 % (Wang et al., NormFace, 2017, Prop. 2).
        additive = {"m": 0.1, "s": 16.0}
        return [
            component("softmax"),
            component("contrastive"),
            component("l-softmax", m=2, **annealing),
            component("am-softmax", **additive),
            component("arcface", **additive),
        ]
    annealing = FACE_ANNEALING.parameters(budget)
    return [
        component("softmax"),
        component("contrastive"),
        component("triplet"),
        *(component("l-softmax", m=m, **annealing) for m in (2, 3, 4)),
        component("a-softmax", m=4, **annealing),
        component("am-softmax", m=0.35, s=30.0),
        component("arcface", m=0.5, s=30.0),
    ]


def _cells(
    setting: str,
    budget: Budget,
    *,
    data: str,
    data_parameters: dict[str, Any],
    head: list[Component],
    seeds: list[int],
    schedule: Schedule,
) -> list[Cell]:
    return grid(
        setting=f"{setting}{budget.note}",
        data=component(data, **dict(budget.data), **data_parameters),
        backbone=component("lfw", **dict(budget.backbone)),
        head=head,
        optimiser=Optimiser(learning_rate=budget.learning_rate),
        schedule=schedule,
        verification=CHOSEN_BY_VIEW_1,
        seed=seeds,
        execution="eager",
    )


def _schedule(budget: Budget) -> Schedule:
    """Cut at 2/3 and 5/6: a plateau of the loss would come at another time for every head."""
    return Schedule(
        iterations=budget.iterations,
        batch_size=budget.batch_size,
        milestones=(budget.iterations * 2 // 3, budget.iterations * 5 // 6),
        evaluations=budget.evaluations,
        sampling="pairs",
        samples_per_class=IMAGES_A_PERSON,
        augmentation="crop-flip",
    )


@suite(
    "lfw",
    description="LFW without outside data: ten trainings a head and seed, one for each set",
    needs=f"{NEEDS_LFW}; full: a GPU",
    seeds=3,
    sizes={SMALL: 1},
    sections=SECTIONS,
    equal_within=0.005,
)
def lfw(seeds: list[int], size: str) -> list[Cell]:
    """The unrestricted protocol: trained on eight sets, thresholds from the ninth, tested on one.

    All ten cells of a head and seed make one result.
    """
    small = size == SMALL
    budget = SMALL_LFW if small else FULL_LFW
    return [
        cell
        for tested in SETS
        for cell in _cells(
            "LFW, unrestricted, no outside data",
            budget,
            data="lfw",
            data_parameters={"protocol": "unrestricted", "tested_set": tested},
            head=_heads(budget, few=small),
            seeds=seeds,
            schedule=_schedule(budget),
        )
    ]


@suite(
    "lfw-view1",
    description="LFW's view 1, for choosing hyper-parameters: one training a head and seed",
    needs=NEEDS_LFW,
    seeds=3,
    sizes={SMALL: 2},
    sections=SECTIONS,
    equal_within=0.005,
)
def lfw_view1(seeds: list[int], size: str) -> list[Cell]:
    """Trained on the people of peopleDevTrain.txt, tested on the pairs of pairsDevTest.txt."""
    small = size == SMALL
    budget = SMALL_LFW if small else FULL_LFW
    return _cells(
        "LFW, view 1",
        budget,
        data="lfw",
        data_parameters={"protocol": "view1"},
        head=_heads(budget, few=small),
        seeds=seeds,
        schedule=_schedule(budget),
    )


WEBFACE = Budget(iterations=57_600, batch_size=256, evaluations=60, lambda_min=LAMBDA_FLOOR)
"""About 30 epochs of 490,000 images."""


@suite(
    "webface",
    description="Table 5: trained on CASIA-WebFace without LFW's people, tested on LFW",
    needs="CASIA-WebFace and LFW in the data folder (docs/faces.md); a GPU",
    seeds=1,
    sections=("published", *SECTIONS),
    equal_within=0.005,
)
def webface(seeds: list[int]) -> list[Cell]:
    """Table 5's rows and those beyond it, by the paper's schedule: cut when the loss plateaus.

    A loss with λ still falling does not get better, so its head's rate may be cut early; the rates
    are in every run's history.
    """
    return _cells(
        "LFW, outside data (Table 5)",
        WEBFACE,
        data="faces",
        data_parameters={
            "name": "webface",
            "people_names": "webface/names.txt",
            "verify": ["lfw"],
            "verify_crop": 112,
            "exclude": ["lfw"],
        },
        head=_heads(WEBFACE, few=False),
        seeds=seeds,
        schedule=Schedule(
            iterations=WEBFACE.iterations,
            batch_size=WEBFACE.batch_size,
            evaluations=WEBFACE.evaluations,
            plateau_patience=3,
            sampling="pairs",
            samples_per_class=IMAGES_A_PERSON,
            augmentation="crop-flip",
        ),
    )
