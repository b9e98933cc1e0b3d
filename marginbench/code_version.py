"""Which code a submission was made with, so that a change before or while it runs is noticed."""

from __future__ import annotations

import contextlib
import hashlib
import platform
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import Any

import marginbench
from marginbench.plugins import HEADS_GROUP, SUITES_GROUP
from marginbench.source_modules import NotStatic, source_files

# Reports do not train: a change there is no change of what runs.
_GROUPS = (HEADS_GROUP, SUITES_GROUP)
_LIBRARIES = ("torch", "torchvision", "timm", "numpy", "scikit-learn", "submitit")


def code_version() -> dict[str, Any]:
    """The versions of Python and of the libraries, and a digest of every source file.

    Returns:
        "python": "3.11"; "packages": version by name; "files": digest by a file's name
        ("marginbench/training.py", "marginbench.losses/arcface.py").
    """
    return {
        "python": ".".join(platform.python_version_tuple()[:2]),
        "packages": _packages(),
        "files": {name: digest(file) for name, file in _files().items()},
    }


def digest(file: Path) -> str:
    """A hash of a file's content; "" where it cannot be read."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    except OSError:
        return ""


def changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs between two code versions, in words: "torch 2.4 → 2.5", "a.py changed"."""
    told = []
    if before["python"] != now["python"]:
        told.append(f"Python {before['python']} → {now['python']}")
    for name in sorted(before["packages"] | now["packages"]):
        old, new = before["packages"].get(name, "none"), now["packages"].get(name, "none")
        if old != new:
            told.append(f"{name} {old} → {new}")
    for name in sorted(before["files"] | now["files"]):
        old, new = before["files"].get(name), now["files"].get(name)
        if old != new:
            told.append(
                f"{name} {'added' if old is None else 'gone' if new is None else 'changed'}"
            )
    return told


def _packages() -> dict[str, str]:
    found = {"marginbench": marginbench.__version__}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    for group in _GROUPS:
        for point in entry_points(group=group):
            if point.dist is not None:
                found[point.dist.name] = point.dist.version
    return found


def _files() -> dict[str, Path]:
    """The source that trains: the engine's, and that of all heads and suites."""
    found = {}
    points = [point for group in _GROUPS for point in entry_points(group=group)]
    for name in ["marginbench", *(point.module for point in points)]:
        with contextlib.suppress(NotStatic):
            found |= source_files(name)
    return found
