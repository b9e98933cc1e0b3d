"""Which code a submission was made with, so that a change before or while it runs is noticed."""

from __future__ import annotations

import contextlib
import hashlib
import platform
from collections.abc import Iterable
from functools import cache
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import Any

import marginbench
from marginbench.files import open_regular
from marginbench.plugins.loading import (
    HEADS_GROUP,
    REGULARISERS_GROUP,
    REPORTS_GROUP,
    SUITES_GROUP,
)
from marginbench.plugins.source_modules import NotStatic, source_files

# Sections do not train: a change there is no change of what runs.
_GROUPS = (HEADS_GROUP, SUITES_GROUP, REGULARISERS_GROUP)
_LIBRARIES = ("torch", "torchvision", "timm", "numpy", "scikit-learn", "submitit")
_DRAWING = ("pandas", "scipy", "matplotlib", "seaborn", "jinja2", "tabulate")


def code_version(*, reports: bool = False) -> dict[str, Any]:
    """The versions of Python and of the libraries, and a digest of every source file.

    Args:
        reports: count what makes reports too, not only what trains.

    Returns:
        "python": "3.11"; "packages": version by name; "files": digest by a file's name
        ("marginbench/training/loop.py", "marginbench.losses/arcface.py").
    """
    groups = (*_GROUPS, REPORTS_GROUP) if reports else _GROUPS
    libraries = (*_LIBRARIES, *_DRAWING) if reports else _LIBRARIES
    # Not those of the process's start: a package found by a relative path has lost its name where
    # the process has changed its folder since.
    points = [point for group in groups for point in entry_points(group=group)]
    return {
        "python": ".".join(platform.python_version_tuple()[:2]),
        "packages": _packages(libraries, points),
        "files": {name: digest(file) for name, file in _files(points).items()},
    }


def digest(file: Path) -> str:
    """A hash of a file's content; "" where it cannot be read, or is no file."""
    try:
        with open_regular(file) as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()[:16]
    except OSError:
        return ""


def changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs between two code versions, in words: "torch 2.4 → 2.5", "a.py changed"."""
    changed = []
    if before["python"] != now["python"]:
        changed.append(f"Python {before['python']} → {now['python']}")
    for name in sorted(before["packages"] | now["packages"]):
        old, new = before["packages"].get(name, "none"), now["packages"].get(name, "none")
        if old != new:
            changed.append(f"{name} {old} → {new}")
    for name in sorted(before["files"] | now["files"]):
        old, new = before["files"].get(name), now["files"].get(name)
        if old != new:
            changed.append(
                f"{name} {'added' if old is None else 'gone' if new is None else 'changed'}"
            )
    return changed


def _packages(libraries: Iterable[str], points: Iterable[EntryPoint]) -> dict[str, str]:
    found = {"marginbench": marginbench.__version__}
    for name in libraries:
        try:
            found[name] = _version(name)
        except PackageNotFoundError:
            continue
    for point in points:
        if point.dist is not None:
            found[point.dist.name] = point.dist.version
    return found


@cache
def _version(name: str) -> str:
    return version(name)


def _files(points: Iterable[EntryPoint]) -> dict[str, Path]:
    """The source of the engine and of what the entry points name."""
    found: dict[str, Path] = {}
    for name in ["marginbench", *(point.module for point in points)]:
        with contextlib.suppress(NotStatic):
            found |= source_files(name)
    return found
