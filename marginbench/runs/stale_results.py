"""Results that were made by other code, from other images or with other libraries than today's."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable
from functools import cache
from typing import Any

from marginbench.errors import UserError
from marginbench.plugins.component import Component
from marginbench.runs.cell_status import FINISHED, CellStatus
from marginbench.runs.code_version import changes
from marginbench.runs.deciding_code import DecidingCode, deciding_code
from marginbench.runs.run_folder import RunFolder
from marginbench.text import count

_TOLD_CHANGES = 3
_TOLD_GROUPS = 5


def is_stale(folder: RunFolder, status: CellStatus) -> bool:
    """Whether a cell has a result that is known to be of other code or images than there are now.

    Of a result without a record of its code, nothing is known.
    """
    if status.state not in FINISHED or status.result is None:
        return False
    made_by = status.result.get("code")
    if made_by is not None and made_by != deciding_code(folder.cell).digest:
        return True
    return is_of_other_images(folder, status)


def is_of_other_images(folder: RunFolder, status: CellStatus) -> bool:
    """Whether a cell has a result made from other images than its data source now has.

    Of data whose content is in the key it cannot be; only for other data torch is loaded.
    """
    data = folder.cell.data
    if status.state not in FINISHED or status.result is None or "content" in data.parameters:
        return False
    made_from = status.result.get("content")
    return bool(made_from) and _content_now(data.name) not in ("", made_from)


def image_notes(cells: Iterable[tuple[RunFolder, CellStatus]]) -> list[str]:
    """A sentence on the results that were made from other images than there are now.

    Args:
        cells: the run folders and their states.
    """
    others = sum(is_of_other_images(folder, status) for folder, status in cells)
    if not others:
        return []
    return [
        f"{count(others, 'result')} made from other images than the data sources have now; "
        "--retrain-stale (run, submit) trains such cells anew"
    ]


def stale_notes(cells: Iterable[tuple[RunFolder, CellStatus]]) -> list[str]:
    """:func:`code_notes` and :func:`image_notes`."""
    cells = list(cells)
    return code_notes(cells) + image_notes(cells)


@cache
def _content_now(name: str) -> str:
    from marginbench.data import data_content

    # Damaged images are named where they are trained on.
    with contextlib.suppress(UserError):
        return data_content(Component(name=name))
    return ""


def code_notes(cells: Iterable[tuple[RunFolder, CellStatus]]) -> list[str]:
    """Sentences on the results that were made by other code, by unknown code, by other libraries.

    Args:
        cells: the run folders and their states.
    """
    # Results with the same record have the same changes: one file is read for all of them.
    stale: dict[tuple[str, str], list[RunFolder]] = {}
    libraries: Counter[str] = Counter()
    unknown = 0
    for folder, status in cells:
        if status.state not in FINISHED or status.result is None:
            continue
        now = deciding_code(folder.cell)
        made_by = status.result.get("code")
        if made_by is None:
            unknown += 1
        elif made_by != now.digest:
            stale.setdefault((str(made_by), now.digest), []).append(folder)
        else:
            libraries[_other_libraries(status.result.get("libraries"), now)] += 1
    counts: Counter[str] = Counter()
    for folders in stale.values():
        counts[_changes_since(folders[0])] += len(folders)
    notes = _sentences(counts, "made by other code")
    if notes:
        notes[-1] += "; --retrain-stale (run, submit) trains such cells anew"
    del libraries[""]
    notes += _sentences(libraries, "made with other libraries")
    if unknown:
        notes.append(f"{count(unknown, 'result')} made by unknown code: it was not recorded yet")
    return notes


def _sentences(counts: Counter[str], what: str) -> list[str]:
    """One a group of results, the largest first, and one for all the small ones."""
    groups = counts.most_common()
    lines = [f"{count(n, 'result')} {what}: {words}" for words, n in groups[:_TOLD_GROUPS]]
    rest = sum(number for _, number in groups[_TOLD_GROUPS:])
    return [*lines, f"{count(rest, 'further result')} {what}"] if rest else lines


def _changes_since(folder: RunFolder) -> str:
    recorded: Any = folder.read_environment().get("code")
    now = deciding_code(folder.cell).record()
    try:
        found = changes({**now, "files": recorded["files"]}, now)
    except (TypeError, KeyError, AttributeError):
        found = []
    if not found:
        return "which files have changed is not recorded"
    more = len(found) - _TOLD_CHANGES
    return ", ".join(found[:_TOLD_CHANGES]) + (f" and {more} more" if more > 0 else "")


def _other_libraries(recorded: Any, now: DecidingCode) -> str:
    if not isinstance(recorded, dict) or recorded == now.libraries:
        return ""
    record = now.record()
    return ", ".join(changes({**record, "packages": recorded}, record))
