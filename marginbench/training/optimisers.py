"""A cell's optimiser, and the learning rate of each of its steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import nn

from marginbench.backbones import Backbone
from marginbench.errors import UserError
from marginbench.experiments.cell_fields import Optimiser, Schedule
from marginbench.heads import Head
from marginbench.training.adaptive_optimisers import AdamW, RMSprop
from marginbench.training.functional_optimiser import FunctionalOptimiser
from marginbench.training.momentum import MomentumSGD
from marginbench.training.orthogonal_training import rotation_parameters


def build_optimiser(backbone: Backbone, head: Head, settings: Optimiser) -> FunctionalOptimiser:
    """The optimiser of a backbone and a head; see :class:`marginbench.experiments.cells.Optimiser`.

    Each of its groups has "multiple": that of the run's learning rate which is its own.

    Raises:
        UserError: a sample of the classes with another kind than SGD, or with clipping.
    """
    share = head.many_classes.sampled_classes
    if share < 1 and (settings.kind != "sgd" or settings.clip_norm):
        raise UserError(
            f"cell: sampled_classes = {share:g} is not allowed with optimiser.kind = "
            f"{settings.kind!r}, optimiser.clip_norm = {settings.clip_norm:g}; allowed: 'sgd', 0"
        )
    rotations = rotation_parameters(backbone)
    groups: list[dict[str, Any]] = []
    for multiple, parameters in _by_multiple(backbone, head, settings).items():
        for decays in (True, False):
            group = [p for p in parameters if (p.ndim >= 2 and id(p) not in rotations) == decays]
            if group:
                decay = settings.weight_decay if decays else 0.0
                groups.append({"params": group, "weight_decay": decay, "multiple": multiple})
    common = {
        "learning_rate": settings.learning_rate,
        "momentum": settings.momentum,
        "clip_norm": settings.clip_norm,
    }
    if settings.kind == "sgd":
        return MomentumSGD(groups, **common)
    kind = {"adamw": AdamW, "rmsprop": RMSprop}[settings.kind]
    return kind(groups, **common, squares_decay=settings.squares_decay, epsilon=settings.epsilon)


def _by_multiple(
    backbone: Backbone, head: Head, settings: Optimiser
) -> dict[float, list[nn.Parameter]]:
    """What is trained, by the multiple of its learning rate."""
    found: dict[float, list[nn.Parameter]] = {}
    for name, parameter in backbone.named_parameters():
        is_added = name.partition(".")[0] in backbone.added_layers
        multiple = 1.0 if is_added else settings.backbone_rate
        found.setdefault(multiple, []).append(parameter)
    for parameter in head.parameters():
        found.setdefault(settings.head_rate, []).append(parameter)
    return {
        multiple: [parameter for parameter in parameters if parameter.requires_grad]
        for multiple, parameters in found.items()
    }


def learning_rate(iteration: int, optimiser: Optimiser, schedule: Schedule, cuts: int = 0) -> float:
    """The rate of the step that ends at an iteration (1 … iterations), before any multiple.

    Args:
        iteration: see above.
        optimiser: has the highest rate.
        schedule: has the course.
        cuts: see :func:`count_rate_cuts`.
    """
    passed = sum(iteration > milestone for milestone in schedule.milestones)
    rate = optimiser.learning_rate * schedule.factor ** (passed + cuts)
    if iteration <= schedule.warm_up:
        return rate * iteration / schedule.warm_up
    if schedule.course == "cosine":
        # Loshchilov and Hutter, ICLR 2017, Eq. 5, without restarts, down to 0.
        done = (iteration - 1 - schedule.warm_up) / (schedule.iterations - schedule.warm_up)
        rate *= (1 + math.cos(math.pi * done)) / 2
    return rate


def count_rate_cuts(losses: Sequence[float], schedule: Schedule) -> int:
    """How often the learning rate was cut because the training loss got no better.

    A function of the losses alone, so that a resumed run has the rate of an undisturbed one.

    Args:
        losses: of the evaluations so far, in order.
        schedule: its plateau_patience is 0 for never.
    """
    best, waited, cuts = math.inf, 0, 0
    for loss in losses:
        if loss < best - schedule.plateau_threshold * abs(best) or math.isinf(best):
            best, waited = loss, 0
            continue
        waited += 1
        if 0 < schedule.plateau_patience <= waited and cuts < schedule.plateau_cuts:
            cuts, waited = cuts + 1, 0
    return cuts
