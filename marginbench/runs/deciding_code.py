"""Which code decides a cell's numbers, so that results made by other code are known as such.

That is the code of its data source, backbone, head and regulariser, that of the training loop, and
what each of them imports of this project (or, of another package's plug-in, of that package). It is
read off the source: no torch is needed. Comments and docstrings decide nothing.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import platform
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from marginbench.errors import UserError
from marginbench.experiments.cells import Cell
from marginbench.plugins.entry_points import entry_points_of
from marginbench.plugins.loading import HEADS_GROUP, REGULARISERS_GROUP
from marginbench.plugins.registrations import KINDS, PARTS, defining_module
from marginbench.plugins.source_modules import (
    OWN_PACKAGE,
    NotStatic,
    SourceModule,
    decorator_names,
    source_module,
    source_modules_in,
    statements,
)

TRAINING = f"{OWN_PACKAGE}.training.loop"
NOT_DECIDING_ROOMS = ("errors", "files", "text", "plugins", "experiments", "runs", "reporting")
NOT_DECIDING = frozenset(
    f"{OWN_PACKAGE}{name}"
    for name in (
        "",
        ".backbones",
        ".data",
        ".data.account",
        ".data.checks",
        ".data.files.downloads",
        ".data.files.paths",
        ".data.sources",
        ".heads",
        ".regularisers",
        ".training.checkpoints",
    )
)
"""Modules that find, check and keep; with what only they import, they leave the numbers alone."""
_LIBRARIES = {
    "PIL": "pillow",
    "numpy": "numpy",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "pytorch_metric_learning": "pytorch-metric-learning",
    "timm": "timm",
    "torch": "torch",
    "torchvision": "torchvision",
}
_DECLARATIONS = {"suite", "section"}
_STRING_OR_COMMENT = re.compile(
    r'("""(?:\\.|.)*?"""|\'\'\'(?:\\.|.)*?\'\'\'|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\')|#[^\n]*',
    re.DOTALL,
)


@dataclass(frozen=True)
class DecidingCode:
    """What decides a cell's numbers beside the cell itself.

    Attributes:
        files: a digest of each file's code, by the file's name ("marginbench/training/step.py").
        libraries: the version of each library that this code imports, by its name.
    """

    files: Mapping[str, str]
    libraries: Mapping[str, str]

    @cached_property
    def digest(self) -> str:
        """Of all files; equal where the code is."""
        text = json.dumps(self.files, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def record(self) -> dict[str, Any]:
        """For environment.json; see :func:`marginbench.runs.code_version.changes`."""
        python = ".".join(platform.python_version_tuple()[:2])
        return {
            "python": python,
            "packages": dict(self.libraries),
            "files": dict(self.files),
        }


def deciding_code(cell: Cell) -> DecidingCode:
    """The code as this process first read it: see :func:`read_sources`."""
    return _deciding_code(*_parts(cell))


def _parts(cell: Cell) -> list[tuple[str, str]]:
    """(field, name) of each part that the cell has."""
    parts = [(field, getattr(cell, field)) for field in PARTS]
    return [(field, part.name) for field, part in parts if part is not None]


def libraries_of_parts(cells: Iterable[Cell]) -> list[str]:
    """The modules of other packages that the cells' parts import, wherever they do: "timm", say.

    For a process that others are forked from: what it has imported, none of them imports again.
    """
    found: set[str] = set()
    for field, name in {part for cell in cells for part in _parts(cell)}:
        # A part of a plug-in file may be known to none but the cell's own process.
        with contextlib.suppress(NotStatic, UserError):
            for module in _with_imports(defining_module(field, name)):
                found |= {name for name in module.imported if name.partition(".")[0] in _LIBRARIES}
    return sorted(found)


@cache
def read_sources() -> None:
    """Read all sources now, for :func:`deciding_code` later.

    To be called by a process that imports what trains, and then trains for long or forks others:
    what it has imported is what trains, whatever becomes of the files.
    """
    own = [OWN_PACKAGE, *(kind.package for kind in KINDS.values() if kind.package)]
    groups = (HEADS_GROUP, REGULARISERS_GROUP)
    others = [point.module for group in groups for point in entry_points_of(group)]
    for package in [*own, *others]:
        with contextlib.suppress(NotStatic):
            source_modules_in(package)
    # What all cells share: whoever is forked from this process has it then.
    _deciding_code()


@cache
def _deciding_code(*parts: tuple[str, str]) -> DecidingCode:
    modules = _with_imports(source_module(TRAINING))
    for field, name in parts:
        try:
            modules |= _with_imports(defining_module(field, name))
        except NotStatic:
            # Defined where there is no file to read: typed into an interpreter, say.
            continue
    imported = {name.partition(".")[0] for module in modules for name in module.imported}
    libraries = {}
    for name in sorted(imported & _LIBRARIES.keys()):
        try:
            libraries[_LIBRARIES[name]] = version(_LIBRARIES[name]).partition("+")[0]
        except PackageNotFoundError:
            continue
    files = {module.file_name: _digest(module) for module in modules}
    by_name = dict(sorted(libraries.items(), key=lambda one: one[0].lower()))
    return DecidingCode(dict(sorted(files.items())), by_name)


def _with_imports(module: SourceModule) -> set[SourceModule]:
    """The module and all that it imports of its own, what decides nothing left out."""
    found: set[SourceModule] = set()
    waiting = [module]
    while waiting:
        one = waiting.pop()
        if one in found:
            continue
        found.add(one)
        for name in one.imported:
            if one.is_near(name) and _may_decide(name):
                try:
                    waiting.append(source_module(name))
                except NotStatic:
                    continue
    return found


def _may_decide(module: str) -> bool:
    package, _, rest = module.partition(".")
    if package != OWN_PACKAGE:
        return True
    return module not in NOT_DECIDING and rest.partition(".")[0] not in NOT_DECIDING_ROOMS


@cache
def _digest(module: SourceModule) -> str:
    """A hash of the code without comments, docstrings, empty lines and declarations of suites."""
    encoded = module.text.encode()
    starts = [0]
    for line in encoded.split(b"\n"):
        starts.append(starts[-1] + len(line) + 1)
    idle = []
    for node in filter(_decides_nothing, statements(module.tree)):
        # A definition begins with its decorators, which begin with an "@".
        first = min([node, *getattr(node, "decorator_list", [])], key=lambda part: part.lineno)
        begin = starts[first.lineno - 1] + first.col_offset - (first is not node)
        end = starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
        idle.append((begin, end))
    kept, position = [], 0
    for begin, end in sorted(idle):
        kept.append(encoded[position:begin])
        position = max(position, end)
    text = b"".join([*kept, encoded[position:]]).decode()
    text = _STRING_OR_COMMENT.sub(lambda match: match[1] or "", text)
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _decides_nothing(node: ast.stmt) -> bool:
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    return isinstance(node, ast.FunctionDef) and bool(_DECLARATIONS & decorator_names(node))
