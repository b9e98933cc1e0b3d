"""People kept out of training, to choose hyper-parameters on in place of those tested on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch

from marginbench.data import VerificationPairs
from marginbench.data.choices.lfw_protocol import ImageId, Pair
from marginbench.data.choices.threshold_pairs import draw_threshold_pairs
from marginbench.errors import UserError

PeopleValidation = Literal["none", "held-out"]
"""Who is verified. "none": the people of the protocol. "held-out": none of these; a fifth of the
people trained on are left out of training, and pairs of their images are verified."""

HELD_OUT_PEOPLE = 0.2


def hold_out_people(
    where: str, people: Mapping[str, int], draw: int, parts: int = 1
) -> list[tuple[dict[str, int], list[Pair]]]:
    """Some of the people to be trained on, and pairs of their images.

    Args:
        where: what names the people, for messages.
        people: each one's number of images.
        draw: which of the possible choices.
        parts: so many groups of people, of nearly equal size, each with pairs of its own.

    Returns:
        For each part the people with their numbers of images, and pairs as of
        :func:`draw_threshold_pairs`.

    Raises:
        UserError: too few people, or nobody held out has two images.
    """
    random = np.random.default_rng([5, draw])
    names = sorted(people)
    count = round(HELD_OUT_PEOPLE * len(names))
    if count < 2 * parts or len(names) - count < 2:
        raise UserError(
            f"validation = 'held-out' is not allowed with {len(names)} people to train on: it "
            f"keeps {count} of them out of training, and {2 * parts} or more are needed; "
            "allowed: 'none'"
        )
    held = [names[k] for k in random.permutation(len(names))[:count]]
    groups = [{name: people[name] for name in held[part::parts]} for part in range(parts)]
    return [
        (group, draw_threshold_pairs(where, group, random, kept_out_by="validation"))
        for group in groups
    ]


def pairs_of_people_held_out(
    images: np.ndarray,
    labels: np.ndarray,
    people: Sequence[int],
    held: Sequence[tuple[Mapping[str, int], Sequence[Pair]]],
) -> VerificationPairs:
    """Pairs of people who are not trained on, a fold a group of people.

    Args:
        images: (M, C, H, W), uint8, of all of them.
        labels: (M,), int64, whose image each one is: an index into ``people``.
        people: what ``held`` calls each of them, as a number.
        held: of :func:`hold_out_people`.
    """
    rows = {str(k): np.flatnonzero(labels == label) for label, k in enumerate(people)}

    def row(image: ImageId) -> int:
        return int(rows[image.person][image.number - 1])

    drawn = [(fold, pair) for fold, (_, pairs) in enumerate(held) for pair in pairs]
    return VerificationPairs(
        name="held-out",
        images=torch.from_numpy(images),
        first=torch.tensor([row(pair.first) for _, pair in drawn]),
        second=torch.tensor([row(pair.second) for _, pair in drawn]),
        same=torch.tensor([pair.same for _, pair in drawn]),
        fold=torch.tensor([fold for fold, _ in drawn]),
        description=f"pairs of {len(people)} people of the training set, who are not trained on",
        people=torch.from_numpy(labels),
    )
