"""Pairs of people kept out of training, to choose a threshold on."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from marginbench.data.choices.lfw_protocol import ImageId, Pair
from marginbench.errors import UserError

THRESHOLD_PAIRS = 1000


def draw_threshold_pairs(
    where: str,
    people: Mapping[str, int],
    random: np.random.Generator,
    *,
    kept_out_by: str = "threshold_share",
) -> list[Pair]:
    """Pairs of one person and as many of two, of the images of some people.

    Same pairs: a round takes one of every person's yet unused pairs, until there are enough.
    Different pairs: no two people meet twice.

    Args:
        where: what names the people, for messages.
        people: each one's number of images.
        random: of the draw.
        kept_out_by: the parameter that keeps the people out of training, for messages.

    Returns:
        Up to :data:`THRESHOLD_PAIRS` pairs of one person, then as many of two.

    Raises:
        UserError: nobody has two images.
    """
    left_to_take = {
        person: random.permutation(count * (count - 1) // 2)
        for person, count in people.items()
        if count > 1
    }
    names = list(people)
    number = min(
        THRESHOLD_PAIRS,
        sum(len(pairs) for pairs in left_to_take.values()),
        len(names) * (len(names) - 1) // 2,
    )
    if number == 0:
        raise UserError(
            f"{where}: of the {len(names)} people kept out of training by {kept_out_by} nobody "
            "has two images, so that there is no pair to choose a threshold on; give a larger one, "
            "or more people with two images"
        )
    pairs: list[Pair] = []
    turn = 0
    while len(pairs) < number:
        for person, order in left_to_take.items():
            if turn < len(order) and len(pairs) < number:
                lefts, rights = np.triu_indices(people[person], k=1)
                left, right = int(lefts[order[turn]]) + 1, int(rights[order[turn]]) + 1
                pairs.append(Pair(ImageId(person, left), ImageId(person, right), where))
        turn += 1
    lefts, rights = np.triu_indices(len(names), k=1)
    for chosen in random.choice(len(lefts), size=number, replace=False):
        first, second = (
            ImageId(person, int(random.integers(people[person])) + 1)
            for person in (names[lefts[chosen]], names[rights[chosen]])
        )
        pairs.append(Pair(first, second, where))
    return pairs
