"""Which classes of a labelled folder are left out of training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from marginbench.data.formats.reading import reading
from marginbench.errors import UserError


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
    try:
        with reading(path):
            text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{where} is not UTF-8 text") from None
    number_of = {name: number for number, name in enumerate(names)}
    found: dict[int, int] = {}
    for line_number, line in enumerate(text.splitlines(), start=1):
        name = line.strip()
        if not name:
            continue
        if name not in number_of:
            shown = ", ".join(names[:20])
            raise UserError(f"{where}, line {line_number}: no class {name!r}; allowed: {shown}")
        if number_of[name] in found:
            raise UserError(
                f"{where}, line {line_number}: the class {name!r} is in line "
                f"{found[number_of[name]]} already; allowed: each once"
            )
        found[number_of[name]] = line_number
    if not 2 <= len(found) <= len(names) - 2:
        raise UserError(
            f"{where} names {len(found)} of {len(names)} classes; allowed: 2 to {len(names) - 2}"
        )
    return tuple(sorted(found))
