"""The batch order, drawn ahead from the seed: every head of a comparison sees the same batches."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from marginbench.data import load_data
from marginbench.errors import UserError
from marginbench.experiments.cell_fields import Schedule
from marginbench.experiments.cells import Cell
from marginbench.heads import head_class
from marginbench.heads.many_classes import ManyClasses
from marginbench.training.seeds import generator

CHECKED_BATCHES = 200


def draw_batches(labels: Tensor, schedule: Schedule, seed: int) -> Tensor:
    """Which images make up each batch.

    Args:
        labels: (N,), of the training images.
        schedule: its sampling is "shuffled" (epochs of all images, one after the other, a batch
            may span two), "balanced" or "pairs" (see :class:`Schedule`).
        seed: the cell's.

    Returns:
        (iterations, batch_size), int32, indices of training images.

    Raises:
        UserError: "pairs" with a batch size that is no multiple of the samples a class, or with
            more classes a batch than there are.
    """
    random = generator(seed, "data")
    if schedule.sampling == "pairs":
        return _pairs(labels, schedule, random)
    needed = schedule.iterations * schedule.batch_size
    if schedule.sampling == "balanced":
        return _balanced(labels, needed, random).view(schedule.iterations, schedule.batch_size)
    epochs = [
        torch.randperm(len(labels), generator=random, dtype=torch.int64).int()
        for _ in range(-(-needed // len(labels)))
    ]
    order = torch.cat(epochs)[:needed]
    return order.view(schedule.iterations, schedule.batch_size)


def check_pairs(labels: Tensor, schedule: Schedule, head_name: str) -> None:
    """Make sure that a pair loss finds pairs: the same answer for every seed and order of images.

    A batch without pairs is no error, only of no use to the loss.

    Args:
        labels: (N,), of the training images.
        schedule: by which batches are drawn.
        head_name: for the message.

    Raises:
        UserError: a tenth of the batches or more holds no two images of one class.
    """
    few = schedule.model_copy(update={"iterations": CHECKED_BATCHES})
    ordered = labels.sort().values
    drawn = ordered[draw_batches(ordered, few, seed=0).long()].sort(dim=1).values
    has_pair = (drawn[:, 1:] == drawn[:, :-1]).any(dim=1)
    lacking = 1 - has_pair.double().mean().item()
    if lacking >= 0.1:
        raise UserError(
            f"head {head_name!r} learns from pairs of one class, and {lacking:.0%} of the batches "
            "hold none: set schedule.sampling = 'pairs', or a larger schedule.batch_size"
        )


def check_sample(cell: Cell, num_classes: int) -> None:
    """Make sure that ``sampled_classes`` below 1 leaves classes out.

    Raises:
        UserError: each step would take all K classes.
    """
    share, size = cell.head.parameters.get("sampled_classes", 1.0), cell.schedule.batch_size
    sample = ManyClasses(sampled_classes=share).sample_size(size, num_classes)
    if share < 1 and sample == num_classes:
        raise UserError(
            f"head {cell.head.name!r}: sampled_classes = {share} takes all {num_classes} classes "
            f"with schedule.batch_size = {size}; allowed: max(⌈sampled_classes·K⌉, batch_size) < "
            f"K = {num_classes}, or leave sampled_classes out"
        )


def check_batches(cells: Iterable[Cell]) -> None:
    """:func:`check_pairs` and :func:`check_sample` of all cells, before any of them is trained.

    Raises:
        UserError: see there, and :func:`marginbench.data.load_data`.
    """
    checked = set()
    for cell in cells:
        sampled = cell.head.parameters.get("sampled_classes", 1.0)
        schedule = cell.schedule.model_dump_json()
        what = (cell.data.model_dump_json(), schedule, cell.head.name, sampled)
        pairs = head_class(cell.head.name).needs_pairs
        if what not in checked and (pairs or sampled < 1):
            data = load_data(cell.data.name, cell.data.parameters, cell.seed)
            check_sample(cell, data.num_classes)
            if pairs:
                check_pairs(data.train_labels, cell.schedule, cell.head.name)
        checked.add(what)


def _balanced(labels: Tensor, needed: int, random: torch.Generator) -> Tensor:
    """Rounds of all classes in random order; each class gives its images in shuffled turns."""
    members = [torch.nonzero(labels == value).flatten() for value in labels.unique()]
    rounds = -(-needed // len(members))
    order = torch.empty(rounds, len(members), dtype=torch.int32)
    for column, images in enumerate(members):
        turns = -(-rounds // len(images))
        shuffled = torch.rand(turns, len(images), generator=random).argsort(dim=1)
        order[:, column] = images[shuffled.flatten()[:rounds]].int()
    mixed = torch.rand(rounds, len(members), generator=random).argsort(dim=1)
    return order.gather(1, mixed).flatten()[:needed]


def _pairs(labels: Tensor, schedule: Schedule, random: torch.Generator) -> Tensor:
    samples = schedule.samples_per_class
    classes, rest = divmod(schedule.batch_size, samples)
    members = [torch.nonzero(labels == value).flatten() for value in labels.unique()]
    members = [images for images in members if len(images) >= 2]
    if rest or not 0 < classes <= len(members):
        raise UserError(
            f"cell: schedule.batch_size = {schedule.batch_size} with samples_per_class = {samples} "
            f"is not allowed; allowed: a multiple of samples_per_class, with at most "
            f"{len(members)} classes of two images or more in a batch"
        )
    batches = torch.empty(schedule.iterations, classes, samples, dtype=torch.int32)
    for batch in batches:
        for row, number in enumerate(torch.randperm(len(members), generator=random)[:classes]):
            images = members[number]
            # A class with fewer images than asked for gives some of them twice.
            repeats = -(-samples // len(images))
            order = [torch.randperm(len(images), generator=random) for _ in range(repeats)]
            batch[row] = images[torch.cat(order)[:samples]]
    return batches.view(schedule.iterations, -1)
