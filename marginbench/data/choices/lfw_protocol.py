"""The protocol files of LFW: who is in which set, and which pairs of images are compared.

Huang, Ramesh, Berg and Learned-Miller, Labeled Faces in the Wild, 2007.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from marginbench.data.formats.reading import read_text
from marginbench.errors import UserError


@dataclass(frozen=True)
class ImageId:
    """One of a person's images.

    Attributes:
        person: "Aaron_Peirsol".
        number: from 1.
    """

    person: str
    number: int

    @property
    def key(self) -> str:
        """Its path below the image folder, without the suffix."""
        return f"{self.person}/{self.person}_{self.number:04d}"

    @property
    def name(self) -> str:
        """For the report: "Aaron_Peirsol 1"."""
        return f"{self.person} {self.number}"


@dataclass(frozen=True)
class Pair:
    """Two images to compare.

    Attributes:
        first, second: the images.
        where: file and line, for messages.
    """

    first: ImageId
    second: ImageId
    where: str

    @property
    def same(self) -> bool:
        """Whether both are of one person."""
        return self.first.person == self.second.person


def read_people(path: Path, *, sets: int | None = None) -> tuple[dict[str, int], ...]:
    """``people.txt``, ``peopleDevTrain.txt`` or ``peopleDevTest.txt``.

    Args:
        path: a file of "NAME<tab>COUNT" lines below a line with their number; with ``sets``, so
            many of these below a first line with the number of sets.
        sets: how many sets there must be; None for a file of one set without that first line.

    Returns:
        For each set, every person's number of images. No person is in two sets.

    Raises:
        UserError: the file cannot be read, or a line is not as it must be.
    """
    lines = _Lines(path)
    if sets is not None:
        (number,) = lines.numbers(1, "the number of sets")
        if number != sets:
            lines.refuse(f"{sets}, the number of sets")
    found: list[dict[str, int]] = []
    first_seen: dict[str, int] = {}
    for _ in range(1 if sets is None else sets):
        (size,) = lines.numbers(1, "the number of people in a set")
        people: dict[str, int] = {}
        for _ in range(size):
            expected = "NAME<tab>NUMBER OF IMAGES"
            name, count = lines.fields(2, expected)
            people[name] = lines.number(count, expected)
            if name in first_seen:
                lines.refuse(f"a person who is not in line {first_seen[name]} already")
            first_seen[name] = lines.position
        found.append(people)
    lines.end()
    return tuple(found)


def read_pairs(path: Path, *, folds: int | None = None) -> tuple[tuple[Pair, ...], ...]:
    """``pairs.txt``, ``pairsDevTrain.txt`` or ``pairsDevTest.txt``.

    Args:
        path: a file of n lines "NAME<tab>NUMBER<tab>NUMBER", pairs of one person, and n lines
            "NAME<tab>NUMBER<tab>NAME<tab>NUMBER", pairs of two, below a line with n; with
            ``folds``, so many of these below a first line "FOLDS<tab>n".
        folds: how many folds there must be; None for a file without folds.

    Returns:
        The pairs of each fold.

    Raises:
        UserError: the file cannot be read, or a line is not as it must be.
    """
    lines = _Lines(path)
    if folds is None:
        (each,) = lines.numbers(1, "the number of pairs of one person")
    else:
        header = f"{folds}<tab>NUMBER: folds, and pairs of one person in each"
        number, each = lines.numbers(2, header)
        if number != folds:
            lines.refuse(header)
    found = []
    for _ in range(folds or 1):
        pairs = [_pair_of_one(lines) for _ in range(each)]
        pairs += [_pair_of_two(lines) for _ in range(each)]
        found.append(tuple(pairs))
    lines.end()
    return tuple(found)


def check_people(pairs: Iterable[Pair], people: Mapping[str, int], where: str) -> None:
    """Refuse pairs of others, who could be people who are trained on.

    Args:
        pairs: of a set.
        people: of that set.
        where: what names them, for messages.

    Raises:
        UserError: a person is not among them.
    """
    for pair in pairs:
        for image in (pair.first, pair.second):
            if image.person not in people:
                raise UserError(
                    f"{pair.where}: {image.person!r} is not among the people of {where}"
                )


def _pair_of_one(lines: _Lines) -> Pair:
    expected = "NAME<tab>NUMBER<tab>NUMBER, two images of one person"
    name, left, right = lines.fields(3, expected)
    first, second = lines.number(left, expected), lines.number(right, expected)
    if first == second:
        lines.refuse(f"{expected} that are not the same one")
    return Pair(ImageId(name, first), ImageId(name, second), lines.where)


def _pair_of_two(lines: _Lines) -> Pair:
    expected = "NAME<tab>NUMBER<tab>NAME<tab>NUMBER, images of two people"
    left, first, right, second = lines.fields(4, expected)
    if left == right:
        lines.refuse(expected)
    return Pair(
        ImageId(left, lines.number(first, expected)),
        ImageId(right, lines.number(second, expected)),
        lines.where,
    )


class _Lines:
    """The lines of a file one by one, and the words for one that is not as expected."""

    def __init__(self, path: Path) -> None:
        self._file = repr(str(path))
        self._lines = read_text(path).rstrip().splitlines()
        self.position = 0
        self._line = ""

    @property
    def where(self) -> str:
        """The file and the number of the line read last, for messages."""
        return f"{self._file} line {self.position}"

    def fields(self, count: int, expected: str) -> list[str]:
        if self.position == len(self._lines):
            raise UserError(f"{self._file} ends after line {self.position}; expected: {expected}")
        self._line = self._lines[self.position]
        self.position += 1
        found = [field.strip() for field in self._line.split("\t")]
        if len(found) != count or not all(found):
            self.refuse(expected)
        return found

    def number(self, text: str, expected: str) -> int:
        """A whole number of 1 or above."""
        # More digits than any count has are no count.
        if not (text.isascii() and text.isdecimal() and len(text) < 10) or int(text) < 1:
            self.refuse(expected)
        return int(text)

    def numbers(self, count: int, expected: str) -> list[int]:
        return [self.number(text, expected) for text in self.fields(count, expected)]

    def end(self) -> None:
        if self.position < len(self._lines):
            self._line = self._lines[self.position]
            self.position += 1
            self.refuse("the end of the file")

    def refuse(self, expected: str) -> NoReturn:
        raise UserError(f"{self.where} is {self._line[:100]!r}; expected: {expected}")
