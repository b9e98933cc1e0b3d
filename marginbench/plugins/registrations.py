"""Who registers a part of a cell or a section, read off the source: nothing is imported for it.

For the commands that only show cells or submit them, and for what decides a cell's numbers.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from marginbench.plugins.entry_points import entry_points_of
from marginbench.plugins.loading import (
    HEADS_GROUP,
    REGULARISERS_GROUP,
    REPORTS_GROUP,
    load_plugin_file,
    loaded_plugin_files,
    plugin_path,
)
from marginbench.plugins.registry import Registry
from marginbench.plugins.source_modules import (
    NotStatic,
    SourceModule,
    plugin_source,
    registered_names,
    source_module,
    source_modules_in,
    uses_name,
)


@dataclass(frozen=True)
class Kind:
    """A kind of what plug-ins register.

    Attributes:
        noun: as in messages; the registry's.
        decorator: what registers one.
        package: of the engine's own ones, or "" where entry points say.
        group: of the entry points that name others, or "".
    """

    noun: str
    decorator: str
    package: str
    group: str


KINDS = {
    "data": Kind("data source", "data_source", "marginbench.data.sources", ""),
    "backbone": Kind("backbone", "register_backbone", "marginbench.backbones", ""),
    "head": Kind("head", "register_head", "", HEADS_GROUP),
    "regulariser": Kind(
        "regulariser",
        "register_regulariser",
        "marginbench.regularisers",
        REGULARISERS_GROUP,
    ),
    "section": Kind("section", "section", "", REPORTS_GROUP),
}
PARTS = ("data", "backbone", "head", "regulariser")
"""The fields of a cell that are components; the last may be None."""

_unloaded_plugin_files: list[Path] = []


def know_plugin_file(path: str | Path) -> None:
    """Make a plug-in file known; run it only if it has something that must run: a suite.

    Raises:
        UserError: as :func:`load_plugin_file`.
    """
    file = plugin_path(path)
    try:
        tree = plugin_source(file).tree
    except NotStatic:
        load_plugin_file(path)
        return
    if uses_name(tree, {"suite"}):
        load_plugin_file(path)
    elif file not in _unloaded_plugin_files:
        _unloaded_plugin_files.append(file)


def load_known_plugin_files() -> None:
    """Run the plug-in files that are known only, so that what they register is there.

    Raises:
        UserError: as :func:`load_plugin_file`.
    """
    for file in _unloaded_plugin_files:
        load_plugin_file(file)


def plugin_files() -> list[Path]:
    """All plug-in files in use, run or only known."""
    run = loaded_plugin_files()
    return [*run, *(file for file in _unloaded_plugin_files if file not in run)]


def check_known(field: str, name: str) -> None:
    """Make sure that there is a data source, backbone, head, regulariser or section of that name.

    Raises:
        UserError: there is none; the message lists those that there are.
    """
    try:
        registered = _registered(field, tuple(plugin_files()))
    except NotStatic:
        return
    if not _has_other_packages(field):
        registered.get(name)


def defining_module(field: str, name: str) -> SourceModule:
    """The module that defines a data source, backbone, head or regulariser.

    Args:
        field: one of :data:`PARTS`.
        name: of the part; there is one of that name.

    Raises:
        NotStatic: its source is not to be had.
    """
    kind = KINDS[field]
    family, colon, _ = name.partition(":")
    decorator = f"{kind.decorator}_family" if colon else kind.decorator
    try:
        for module in _modules(kind, tuple(plugin_files())):
            if family in _names(module, decorator):
                return module
    except NotStatic:
        pass
    module = inspect.getmodule(_imported_definition(field, name))
    if module is None or module.__file__ is None:
        raise NotStatic(f"{name} is defined in no file")
    path = Path(module.__file__)
    return plugin_source(path) if path in plugin_files() else source_module(module.__name__)


def _imported_definition(field: str, name: str) -> Callable[..., Any]:
    # By name: the rooms of the parts are above this one.
    room, find = {
        "data": ("data", "data_source_function"),
        "backbone": ("backbones", "backbone_function"),
        "head": ("heads", "head_class"),
        "regulariser": ("regularisers", "regulariser_class"),
    }[field]
    return getattr(importlib.import_module(f"marginbench.{room}"), find)(name)


@cache
def _registered(field: str, plugins: tuple[Path, ...]) -> Registry[SourceModule]:
    kind = KINDS[field]
    registry: Registry[SourceModule] = Registry(kind.noun)
    for module in _modules(kind, plugins):
        for name in _names(module, kind.decorator):
            registry.add(name, module, module.name)
    return registry


def _names(module: SourceModule, decorator: str) -> Iterator[str]:
    for node in module.tree.body:
        yield from registered_names(node, decorator)


def _modules(kind: Kind, plugins: tuple[Path, ...]) -> Iterator[SourceModule]:
    if kind.package:
        yield from source_modules_in(kind.package)
    if kind.group:
        for point in entry_points_of(kind.group):
            try:
                yield from source_modules_in(point.module)
            except NotStatic:
                if point.module.startswith("marginbench."):
                    raise
    for file in plugins:
        yield plugin_source(file)


def _has_other_packages(field: str) -> bool:
    """Whether other packages add entries of a kind; theirs may be hidden from a mere reader."""
    group = KINDS[field].group
    return bool(group) and any(
        not point.module.startswith("marginbench.") for point in entry_points_of(group)
    )
