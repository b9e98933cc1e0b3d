"""``search.json`` in the folder of a tuned suite: the searches that were last asked for."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from marginbench.errors import DamagedFile, UserError
from marginbench.experiments.head_search import HeadSearch
from marginbench.experiments.search import TRIALS
from marginbench.files import write_text_atomically
from marginbench.runs.run_files import as_json, read_sealed, sealed

SEARCH_FILE = "search.json"


def write_searches(
    folder: Path, searches: Sequence[HeadSearch], asked: Mapping[str, int | None]
) -> None:
    """Write what the searches are.

    Args:
        folder: of the tuned suite.
        searches: all of them.
        asked: "trials" and "repeats".

    Raises:
        UserError: the folder cannot be written.
    """
    content = {**asked, "searches": [search.model_dump(mode="json") for search in searches]}
    try:
        write_text_atomically(folder / SEARCH_FILE, as_json(sealed(content)))
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{folder} cannot be written: {reason}") from error


def read_searches(folder: Path) -> tuple[list[HeadSearch], dict[str, Any]] | None:
    """The searches, and "trials" and "repeats" as asked for; None where nothing was searched.

    Raises:
        DamagedFile: the file does not read well.
    """
    path = folder / SEARCH_FILE
    if not os.path.lexists(path):
        return None
    try:
        content = read_sealed(path, must=False)
        searches = [HeadSearch.model_validate(entry) for entry in content["searches"]]
    except (ValidationError, KeyError, TypeError):
        raise DamagedFile(path, "it holds no searches") from None
    return searches, {
        "trials": content.get("trials", TRIALS),
        "repeats": content.get("repeats"),
    }


def last_asked_for(folder: Path) -> dict[str, Any]:
    """ "trials" and "repeats"; empty where nothing was searched or the file is damaged."""
    path = folder / SEARCH_FILE
    try:
        return read_sealed(path, must=False) if path.exists() else {}
    except DamagedFile:
        # It is written anew.
        return {}
