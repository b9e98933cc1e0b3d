"""Faces: LFW by its own protocols, and Table 5 of Liu et al., ICML 2016.

All heads of a comparison see the same batches, so all get the batches that the pair losses need:
some people, and several images of each.
"""

from __future__ import annotations

from typing import Any

from marginbench.cells import Cell, Component, Optimiser, Schedule, Verification
from marginbench.grids import component, grid, suite

from .paper import SMALL, Annealing, Size

NEEDS_LFW = "LFW in the data folder (docs/faces.md)"
SETS = range(1, 11)
SECTIONS = ("verification", "overfitting", "account")

FACE_ANNEALING = Annealing(0.6, 45.0)
"""The course that the authors publish for CIFAR-10; they publish none for faces."""

IMAGES_A_PERSON = 4
"""In a batch. People with fewer than two images make no pairs, and are not trained on."""

CHOSEN_BY_VIEW_1 = Verification(mirror="sum", centre=True)

FULL_LFW = Size(
    iterations=4_000,
    batch_size=256,
    evaluations=8,
    data=(("crop", 112), ("size", 112), ("minimum_images", 2)),
)
SMALL_LFW = Size(
    iterations=600,
    batch_size=64,
    evaluations=3,
    data=(("crop", 112), ("size", 64), ("minimum_images", 2)),
    backbone=(("width", 0.125), ("features", 128)),
    learning_rate=0.025,
    note=", small profile",
)


def _heads(size: Size, *, few: bool) -> list[Component]:
    """The rows of a face suite; few: those that half an hour on two CPU cores has room for."""
    annealing = FACE_ANNEALING.parameters(size)
    additive = {"s": 30.0}
    if few:
        return [
            component("softmax"),
            component("contrastive"),
            component("l-softmax", m=2, **annealing),
            component("am-softmax", m=0.2, **additive),
            component("arcface", m=0.2, **additive),
        ]
    return [
        component("softmax"),
        component("contrastive"),
        component("triplet"),
        *(component("l-softmax", m=m, **annealing) for m in (2, 3, 4)),
        component("a-softmax", m=4, **annealing),
        component("am-softmax", m=0.35, **additive),
        component("arcface", m=0.5, **additive),
    ]


def _cells(
    setting: str,
    size: Size,
    *,
    data: str,
    data_parameters: dict[str, Any],
    head: list[Component],
    seeds: list[int],
    schedule: Schedule,
) -> list[Cell]:
    return grid(
        setting=f"{setting}{size.note}",
        data=component(data, **dict(size.data), **data_parameters),
        backbone=component("lfw", **dict(size.backbone)),
        head=head,
        optimiser=Optimiser(learning_rate=size.learning_rate),
        schedule=schedule,
        verification=CHOSEN_BY_VIEW_1,
        seed=seeds,
    )


def _schedule(size: Size) -> Schedule:
    """Cut at 2/3 and 5/6: a plateau of the loss would come at another time for every head."""
    return Schedule(
        iterations=size.iterations,
        batch_size=size.batch_size,
        milestones=(size.iterations * 2 // 3, size.iterations * 5 // 6),
        evaluations=size.evaluations,
        sampling="pairs",
        samples_per_class=IMAGES_A_PERSON,
        augmentation="crop-flip",
    )


@suite(
    "lfw",
    description="LFW without outside data: ten trainings a head and seed, one for each set",
    needs=f"{NEEDS_LFW}; full: a GPU",
    seeds=3,
    profiles={SMALL: 1},
    sections=SECTIONS,
)
def lfw(seeds: list[int], profile: str) -> list[Cell]:
    """The unrestricted protocol: trained on eight sets, thresholds from the ninth, tested on one.

    All ten cells of a head and seed make one result.
    """
    small = profile == SMALL
    size = SMALL_LFW if small else FULL_LFW
    return [
        cell
        for tested in SETS
        for cell in _cells(
            "LFW, unrestricted, no outside data",
            size,
            data="lfw",
            data_parameters={"protocol": "unrestricted", "tested_set": tested},
            head=_heads(size, few=small),
            seeds=seeds,
            schedule=_schedule(size),
        )
    ]


@suite(
    "lfw-view1",
    description="LFW's view 1, for choosing hyper-parameters: one training a head and seed",
    needs=NEEDS_LFW,
    seeds=3,
    profiles={SMALL: 2},
    sections=SECTIONS,
)
def lfw_view1(seeds: list[int], profile: str) -> list[Cell]:
    """Trained on the people of peopleDevTrain.txt, tested on the pairs of pairsDevTest.txt."""
    small = profile == SMALL
    size = SMALL_LFW if small else FULL_LFW
    return _cells(
        "LFW, view 1",
        size,
        data="lfw",
        data_parameters={"protocol": "view1"},
        head=_heads(size, few=small),
        seeds=seeds,
        schedule=_schedule(size),
    )


WEBFACE = Size(iterations=57_600, batch_size=256, evaluations=60)
"""About 30 epochs of 490,000 images."""


@suite(
    "webface",
    description="Table 5: trained on CASIA-WebFace without LFW's people, tested on LFW",
    needs="CASIA-WebFace as webface/ and LFW as lfw/ in the data folder (docs/faces.md); a GPU",
    seeds=1,
    sections=("published", *SECTIONS),
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
        data_parameters={"name": "webface", "verify": ["lfw"], "exclude": ["lfw"]},
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
