"""Names of people: which are the same, lists of them, and tables of classes' names."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path

from marginbench.data.formats.reading import read_text
from marginbench.errors import UserError


def normalised(name: str) -> str:
    """A name's letters and digits, small and without accents.

    "Hélène_de  Fougerolles" and "helene de fougerolles" are one, as are "J.K. Rowling" and
    "JK_Rowling". Two people who differ in nothing else count as one: that leaves out one too
    many, never one too few.
    """
    parts = unicodedata.normalize("NFKD", name).casefold()
    kept = "".join(c for c in unicodedata.normalize("NFKD", parts) if c.isalnum())
    return kept or name.strip()


def read_name_list(path: Path) -> frozenset[str]:
    """The people of a list.

    Args:
        path: one name (or class) a line; or LFW's ``people.txt``, "NAME<tab>COUNT" with lines of
            numbers between. Empty lines and those that begin with # are passed over.

    Raises:
        UserError: it cannot be read or has no name.
    """
    lines = [line.strip() for line in read_text(path).splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    rows = [line.split("\t") for line in lines]
    if any(len(row) == 2 and row[1].strip().isdecimal() for row in rows):
        names = frozenset(row[0].strip() for row in rows if len(row) == 2)
    else:
        names = frozenset(lines)
    if not names:
        raise UserError(f"{str(path)!r} has no name; allowed: one name a line")
    return names


def names_of_classes(classes: Sequence[str], path: Path | None) -> list[str | None]:
    """Each class's name, where it has one.

    Args:
        classes: the training set's, as its files call them.
        path: a file of "CLASS NAME" lines, as CASIA-WebFace's ``names.txt``; empty lines, those
            that begin with # and other classes are passed over, and a class that is not there has
            no name. None where the classes themselves are names: those that have a letter, as
            "0000045" is a number.

    Raises:
        UserError: it cannot be read, a line has no name, a class has two, or it has none of
            the classes.
    """
    if path is None:
        return [name if any(c.isalpha() for c in name) else None for name in classes]
    wanted = set(classes)
    found: dict[str, str] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        fields = line.strip().split(maxsplit=1)
        if not fields or fields[0].startswith("#"):
            continue
        where = f"{str(path)!r} line {number}"
        if len(fields) < 2:
            raise UserError(f"{where} is {line.strip()[:100]!r}; expected: CLASS NAME")
        name, person = fields[0], fields[1].strip()
        if found.get(name, person) != person:
            raise UserError(f"{where}: class {name!r} has the name {found[name]!r} already")
        if name in wanted:
            found[name] = person
    if not found:
        raise UserError(
            f"{str(path)!r} names none of the {len(wanted)} classes, the first of which "
            f"is {min(wanted)!r}"
        )
    return [found.get(name) for name in classes]
