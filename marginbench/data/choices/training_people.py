"""Which people of a face set are trained on, and whether they overlap with those verified on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from marginbench.data import VerificationPairs
from marginbench.data.choices.people_names import normalised, read_name_list
from marginbench.errors import UserError


def exclude_people(
    classes: Sequence[str], people: Sequence[str | None], lists: Iterable[tuple[str, Path]]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Which classes of a training set are not trained on.

    Args:
        classes: the training set's, as its files call them.
        people: their names, where they are known.
        lists: files of names or classes, each with what to call it.

    Returns:
        (K,), bool, and a remark a list.

    Raises:
        UserError: a list that cannot be read, or that cannot apply as no class has a name.
    """
    total = np.zeros(len(people), dtype=bool)
    remarks = []
    for entry, path in lists:
        listed = read_name_list(path)
        persons = {normalised(person) for person in listed}
        found = np.array(
            [
                name in listed or (person is not None and normalised(person) in persons)
                for name, person in zip(classes, people, strict=True)
            ]
        )
        if not found.any() and not any(people):
            raise UserError(
                f"nobody can be left out by exclude = {entry!r}: the training set calls its people "
                f"by numbers (the first is {classes[0]!r}) and the list has none of them; allowed: "
                "people_names, a file of CLASS NAME lines, or a list of classes"
            )
        remarks.append(
            f"People excluded from training by the list {entry} ({len(listed):,} entries): "
            f"{found.sum():,} of {len(people):,} left out."
        )
        total |= found
    return total, tuple(remarks)


def check_overlap(
    people: Sequence[str | None],
    verification: Iterable[VerificationPairs],
    *,
    allow_overlap: bool,
) -> tuple[str, ...]:
    """Refuse people who are trained on and verified on.

    Args:
        people: the names of those trained on.
        verification: the sets verified on.
        allow_overlap: a remark in place of the error.

    Returns:
        Remarks, also where the overlap is unknown.

    Raises:
        UserError: a person is in both.
    """
    trained = {normalised(person): person for person in people if person is not None}
    unnamed = sum(person is None for person in people)
    remarks = []
    for pairs in verification:
        if not pairs.image_names:
            remarks.append(
                f"{pairs.name}: whose images these are is not known, and so not whether some of "
                "the people are trained on."
            )
            continue
        verified = {normalised(name.rsplit(" ", 1)[0]) for name in pairs.image_names}
        both = sorted(trained[key] for key in trained.keys() & verified)
        if both and not allow_overlap:
            raise UserError(
                f"{len(both)} people are in the training set and in {pairs.name!r} "
                f"({', '.join(both[:3])}{', …' if len(both) > 3 else ''}); allowed: leave them "
                "out by exclude, or set allow_overlap = True"
            )
        if both:
            remarks.append(
                f"{pairs.name}: {len(both):,} of its people are trained on (allow_overlap = True)."
            )
        if unnamed:
            remarks.append(
                f"{pairs.name}: {unnamed:,} of {len(people):,} people trained on are not known by "
                "name, and so not whether they are in it."
            )
    return tuple(remarks)


def choose_people(
    counts: np.ndarray, *, minimum_images: int, train_people: int | None
) -> np.ndarray:
    """The people to train on; the same whatever the cell's seed.

    Args:
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
            f"minimum_images = {minimum_images} is not allowed: of {len(counts)} people "
            f"{len(enough)} have so many images to train on, and two or more are needed"
        )
    if train_people is None:
        return enough
    if train_people > len(enough):
        raise UserError(
            f"train_people = {train_people} is not allowed; allowed: None, or 2 to "
            f"{len(enough)}, the people there are to train on"
        )
    most = np.argsort(-counts[enough], kind="stable")[:train_people]
    return np.sort(enough[most])
