"""Public data sets fetched through torchvision on first use."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path

from marginbench.data.files.places import ROOT_VARIABLE
from marginbench.errors import UserError
from marginbench.files import no_empty_folders_on_error


def fetch(
    owner: str, dataset: str, root: Path, folder: str, files: Sequence[str], instead: str = ""
) -> Path:
    """The folder of a public data set below the root; downloaded if it is not there.

    The download goes to a folder of its own, which is renamed when it is whole: processes that
    start at once cannot see each other's half-written files.

    Args:
        owner: for messages.
        dataset: the class of ``torchvision.datasets``.
        root: the data folder.
        folder: what torchvision makes below it.
        files: what must be in that folder, for the message.
        instead: a file in the root that would do as well, for the message.

    Raises:
        UserError: the download failed, or the folder cannot be written; the message says which
            files to put where.
    """
    place = root / folder
    if place.is_dir():
        return place
    try:
        with no_empty_folders_on_error(place.parent):
            _fetch_whole(dataset, root, folder)
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        other = f"or {instead} into {str(root)!r}, " if instead else ""
        raise UserError(
            f"{owner}: its files are not in {str(place)!r} and could not be downloaded "
            f"({reason[:200]}); put them there ({', '.join(files)}), {other}or say by --data or "
            f"{ROOT_VARIABLE} which folder holds {folder!r}"
        ) from error
    return place


def _fetch_whole(dataset: str, root: Path, folder: str) -> None:
    """Download to a folder of its own, and rename that when it is whole."""
    place = root / folder
    temporary = root / f".download-{uuid.uuid4().hex}"
    try:
        temporary.mkdir(parents=True)
        _download(dataset, temporary)
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            (temporary / folder).rename(place)
        except OSError:
            # Another process was faster; its files are as good.
            if not place.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _download(dataset: str, root: Path) -> None:
    from torchvision import datasets

    getattr(datasets, dataset)(str(root), train=True, download=True)
