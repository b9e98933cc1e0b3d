"""Nobody is trained on and verified on: people left out by lists, and a check of who is left."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from marginbench.data import VerificationPairs
from marginbench.data.choices.people_lists import (
    is_name,
    normalised,
    read_name_list,
    read_name_table,
)
from marginbench.data.sources.face_sets import FaceSet
from marginbench.errors import UserError


def names_of_classes(owner: str, faces: FaceSet, table: Path | None) -> list[str | None]:
    """Each class's name, where it has one.

    Args:
        owner: for messages.
        faces: the training set.
        table: the file that has the names; None where the classes themselves are names.

    Raises:
        UserError: see :func:`marginbench.data.choices.people_lists.read_name_table`.
    """
    if table is None:
        return [name if is_name(name) else None for name in faces.class_names]
    names = read_name_table(owner, table, faces.class_names)
    return [names.get(name) for name in faces.class_names]


def exclude_people(
    owner: str, faces: FaceSet, people: Sequence[str | None], lists: Iterable[tuple[str, Path]]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Who of a training set is left out.

    Args:
        owner: for messages.
        faces: the training set.
        people: its classes' names.
        lists: files of names or classes, each with what to call it.

    Returns:
        (K,), bool, and a remark a list.

    Raises:
        UserError: a list that cannot be read, or that can leave out nobody as no class has a name.
    """
    total = np.zeros(len(people), dtype=bool)
    remarks = []
    for entry, path in lists:
        listed = read_name_list(owner, path)
        persons = {normalised(person) for person in listed}
        found = np.array(
            [
                name in listed or (person is not None and normalised(person) in persons)
                for name, person in zip(faces.class_names, people, strict=True)
            ]
        )
        if not found.any() and not any(people):
            raise UserError(
                f"{owner}: nobody can be left out by exclude = {entry!r}: the training set calls "
                f"its people by numbers (the first is {faces.class_names[0]!r}) and the list has "
                "none of them; allowed: people_names, a file of CLASS NAME lines, or a list of "
                "classes"
            )
        remarks.append(
            f"People excluded from training by the list {entry} ({len(listed):,} entries): "
            f"{found.sum():,} of {len(people):,} left out."
        )
        total |= found
    return total, tuple(remarks)


def check_overlap(
    owner: str,
    people: Sequence[str | None],
    verification: Iterable[VerificationPairs],
    *,
    allow_overlap: bool,
) -> tuple[str, ...]:
    """Refuse people on both sides.

    Args:
        owner: for messages.
        people: the names of those trained on.
        verification: the sets verified on.
        allow_overlap: a remark in place of the error.

    Returns:
        Remarks, also wherever it cannot be told.

    Raises:
        UserError: somebody is on both sides.
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
                f"{owner}: {len(both)} people are in the training set and in {pairs.name!r} "
                f"({', '.join(both[:3])}{', …' if len(both) > 3 else ''}); allowed: leave them "
                "out by exclude, or say allow_overlap = True"
            )
        if both:
            remarks.append(
                f"{pairs.name}: {len(both):,} of its people are trained on, as allow_overlap says."
            )
        if unnamed:
            remarks.append(
                f"{pairs.name}: {unnamed:,} of {len(people):,} people trained on are not known by "
                "name, and so not whether they are in it."
            )
    return tuple(remarks)
