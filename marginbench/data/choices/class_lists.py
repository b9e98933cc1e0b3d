"""Which classes of a labelled folder are left out of training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from marginbench.data.formats.reading import read_text
from marginbench.errors import UserError, each

LONGEST_NAME = 100


def last_classes(share: float, names: Sequence[str]) -> tuple[int, ...]:
    """The numbers of the last classes, a share of all of them.

    Args:
        share: in (0, 1); the number of classes is rounded.
        names: of all K classes.

    Raises:
        UserError: fewer than two classes are left out, or fewer than two are left.
    """
    count, classes = round(share * len(names)), len(names)
    if not 2 <= count <= classes - 2:
        raise UserError(
            f"left_out_share = {share:g} leaves out {count} of {classes} classes; allowed: a share "
            "that leaves out 2 or more and leaves 2 or more to train on"
        )
    return tuple(range(classes - count, classes))


def listed_classes(path: Path, names: Sequence[str]) -> tuple[int, ...]:
    """The numbers of the classes that a text file names, one a line; empty lines do not count.

    Args:
        path: the file, UTF-8.
        names: of all K classes.

    Raises:
        UserError: the file cannot be read, names a class twice or one that is not there, or leaves
            fewer than two classes on either side.
    """
    where = repr(str(path))
    number_of = {name: number for number, name in enumerate(names)}
    line_of: dict[str, int] = {}

    def number(entry: tuple[int, str]) -> int:
        at, name = f"{where}, line {entry[0]}", entry[1]
        if name not in number_of:
            # A line of a file that is no list can be longer than a screen.
            shown = ", ".join(names[:20])
            raise UserError(f"{at}: no class {name[:LONGEST_NAME]!r}; allowed: {shown}")
        if name in line_of:
            raise UserError(
                f"{at}: the class {name!r} is in line {line_of[name]} already; allowed: each once"
            )
        line_of[name] = entry[0]
        return number_of[name]

    lines = enumerate(map(str.strip, read_text(path).splitlines()), start=1)
    found = each(number, (entry for entry in lines if entry[1]), "lines")
    if not 2 <= len(found) <= len(names) - 2:
        raise UserError(
            f"{where} names {len(found)} of {len(names)} classes; allowed: 2 to {len(names) - 2}"
        )
    return tuple(sorted(found))
