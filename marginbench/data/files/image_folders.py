"""The image files of a folder, the only walker of such folders."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from marginbench.data.formats.reading import reading
from marginbench.errors import UserError

MISPLACED = "in no class's folder"
IMAGE_SUFFIXES = frozenset(
    f".{ending}"
    for ending in (
        *("png", "apng", "jpg", "jpeg", "jpe", "jfif", "bmp", "gif", "webp", "tif", "tiff"),
        *("ppm", "pgm", "pbm", "pnm"),
    )
)
"""What every build of Pillow decodes. AVIF, HEIC and JPEG 2000 are left out: some builds lack them,
and the same folder would be other data there."""


def image_files(folder: Path) -> list[Path]:
    """The image files below a folder, sorted by their path within it; hidden ones left out.

    Symbolic links are followed. Everything that hashes or reads a folder of images takes its
    files from here, so that what is hashed is what is read.

    Raises:
        UserError: the folder cannot be read or has no image file, or a link leads back to a folder
            that it lies in.
    """
    with reading(folder):
        found = [path for path, reason in _walk(folder) if not reason]
    if not found:
        raise UserError(
            f"{str(folder)!r} has no image file; allowed: files that end in "
            f"{', '.join(sorted(IMAGE_SUFFIXES))} {unread_files(folder)}".rstrip()
        )
    start = len(str(folder))
    return [Path(path) for path in sorted(found, key=lambda path: path[start:])]


def unread_files(
    folder: Path, is_placed: Callable[[tuple[str, ...]], bool] = lambda parts: True
) -> str:
    """What is below a folder and not read: a sentence with numbers, reasons and first names, or "".

    Args:
        folder: as of :func:`image_files`.
        is_placed: whether an image file is read, by the parts of its path within the folder.
    """
    by_reason: dict[str, list[str]] = {}
    with reading(folder):
        for text, reason in _walk(folder):
            path = Path(text).relative_to(folder)
            if reason or not is_placed(path.parts):
                by_reason.setdefault(reason or MISPLACED, []).append(path.as_posix())
    reasons = [
        f"{len(names):,} {reason} (the first: {min(names)!r})"
        for reason, names in sorted(by_reason.items())
    ]
    return f"In {folder.name!r} are not read: {', '.join(reasons)}." if reasons else ""


def _walk(folder: Path) -> Iterator[tuple[str, str]]:
    """Every file, and why it is not read: empty for an image file."""
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
                    yield entry.path, "hidden"
                elif entry.is_dir():
                    waiting.append((entry.path, (*above, this)))
                elif not entry.is_file():
                    yield entry.path, "broken links" if entry.is_symlink() else "no regular files"
                elif entry.name.lower().endswith(suffixes):
                    yield entry.path, ""
                else:
                    ending = Path(entry.name).suffix.lower()
                    yield entry.path, f"ending in {ending}" if ending else "without an ending"
