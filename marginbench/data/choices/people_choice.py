"""Which people of a face set are trained on."""

from __future__ import annotations

import numpy as np

from marginbench.errors import UserError


def choose_people(
    owner: str, counts: np.ndarray, *, minimum_images: int, train_people: int | None
) -> np.ndarray:
    """The people to train on; the same whatever the cell's seed.

    Args:
        owner: for messages.
        counts: (K,), each one's number of images.
        minimum_images: people with fewer images are left out.
        train_people: so many, those with the most images (of equals the first); None for all.

    Returns:
        Their indices, sorted.

    Raises:
        UserError: fewer than two people are left, or fewer than wanted.
    """
    enough = np.flatnonzero(counts >= minimum_images)
    if len(enough) < 2:
        raise UserError(
            f"{owner}: minimum_images = {minimum_images} is not allowed: of {len(counts)} people "
            f"{len(enough)} have so many images to train on, and two or more are needed"
        )
    if train_people is None:
        return enough
    if train_people > len(enough):
        raise UserError(
            f"{owner}: train_people = {train_people} is not allowed; allowed: None, or 2 to "
            f"{len(enough)}, the people there are to train on"
        )
    most = np.argsort(-counts[enough], kind="stable")[:train_people]
    return np.sort(enough[most])
