"""People kept out of training, to choose hyper-parameters on in place of those tested on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from marginbench.data.choices.lfw_protocol import Pair
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
