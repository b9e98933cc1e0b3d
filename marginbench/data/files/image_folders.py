"""The image files of a folder, the only walker of such folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from marginbench.data.formats.reading import reading
from marginbench.errors import UserError

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
)


def image_files(folder: Path) -> list[Path]:
    """The image files below a folder, sorted by their path within it; hidden ones left out.

    Symbolic links are followed. Everything that hashes or reads a folder of images takes its
    files from here, so that what is hashed is what is read.

    Raises:
        UserError: the folder cannot be read or has no image file, or a link leads back to a folder
            that it lies in.
    """
    with reading(folder):
        found = list(_walk(folder))
    if not found:
        raise UserError(
            f"{str(folder)!r} has no image file; allowed: files that end in "
            f"{', '.join(sorted(IMAGE_SUFFIXES))}"
        )
    start = len(str(folder))
    return [Path(path) for path in sorted(found, key=lambda path: path[start:])]


def _walk(folder: Path) -> Iterator[str]:
    # Strings, not paths: face sets have half a million files.
    suffixes = tuple(IMAGE_SUFFIXES)
    waiting: list[tuple[str, tuple[tuple[int, int], ...]]] = [(str(folder), ())]
    while waiting:
        current, above = waiting.pop()
        state = Path(current).stat()
        this = (state.st_dev, state.st_ino)
        if this in above:
            raise UserError(f"{current!r} is a link to a folder that it lies in; remove it")
        with os.scandir(current) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    waiting.append((entry.path, (*above, this)))
                elif entry.name.lower().endswith(suffixes) and entry.is_file():
                    yield entry.path
