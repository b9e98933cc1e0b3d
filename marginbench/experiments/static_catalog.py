"""Checking cells without torch: the heads, backbones and data sources, read off their source.

The commands that only hand out work or look at it (submit, status, cancel, logs) go through here.
What cannot be read statically is imported instead, so that the answer never differs.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from marginbench.experiments.cells import Cell, resolved_component
from marginbench.plugins.component import Component
from marginbench.plugins.loading import (
    HEADS_GROUP,
    REPORTS_GROUP,
    load_plugin_file,
    loaded_plugin_files,
    plugin_path,
)
from marginbench.plugins.parameters import parameter_model, resolve_with
from marginbench.plugins.registry import Registry
from marginbench.plugins.source_modules import (
    NotStatic,
    SourceModule,
    completes,
    decorated_names,
    plugin_source,
    source_module,
    source_modules_in,
    uses_name,
)
from marginbench.plugins.static_signatures import static_model


@dataclass(frozen=True)
class Kind:
    """A kind of a cell's part.

    Attributes:
        noun: as in messages; the registry's.
        decorator: what registers one.
        package: of the engine's own ones, or "" where entry points say.
        group: those entry points', or "".
    """

    noun: str
    decorator: str
    package: str
    group: str


KINDS = {
    "data": Kind("data source", "data_source", "marginbench.data.sources", ""),
    "backbone": Kind("backbone", "register_backbone", "marginbench.backbones", ""),
    "head": Kind("head", "register_head", "", HEADS_GROUP),
    "section": Kind("section", "section", "", REPORTS_GROUP),
}
PARTS = ("data", "backbone", "head")

_light_plugin_files: list[Path] = []


@dataclass(frozen=True)
class _Definition:
    module: SourceModule
    node: ast.ClassDef | ast.FunctionDef


def load_plugin_lightly(path: str | Path) -> None:
    """Make a plug-in file known; run it only if it has something that must run: a suite.

    Raises:
        UserError: as :func:`marginbench.plugins.loading.load_plugin_file`.
    """
    file = plugin_path(path)
    try:
        tree = plugin_source(file).tree
    except NotStatic:
        load_plugin_file(path)
        return
    if uses_name(tree, {"suite"}):
        load_plugin_file(path)
    elif file not in _light_plugin_files:
        _light_plugin_files.append(file)


def plugin_files() -> list[Path]:
    """All plug-in files in use, run or only read."""
    run = loaded_plugin_files()
    return [*run, *(file for file in _light_plugin_files if file not in run)]


def parameter_models(field: str) -> dict[str, type[BaseModel]]:
    """The parameters of everything of a kind that can be read statically, by name.

    Args:
        field: "data", "backbone" or "head".
    """
    models = {}
    for name, definition in _catalog(field, tuple(plugin_files())):
        try:
            models[name] = _model(field, name, definition)
        except NotStatic:
            continue
    return models


class LightResolver:
    """Resolves cells as :func:`resolve_cell` does, the same part only once."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, str], Component] = {}

    def __call__(self, cell: Cell) -> Cell:
        """The same cell with the defaults filled in, checked.

        Raises:
            UserError: an unknown data source, backbone or head, or a parameter that is not
                allowed.
        """
        return cell.model_copy(
            update={field: self._resolve(field, getattr(cell, field)) for field in PARTS}
        )

    def _resolve(self, field: str, part: Component) -> Component:
        try:
            known = (field, part.name, repr(part.parameters))
        except ValueError:
            # An integer of more than 4,300 digits, which is refused below.
            known = (field, part.name, "")
        if known not in self._known:
            values = resolve_parameters(field, part.name, part.parameters)
            model = _parameter_model(field, part.name)
            self._known[known] = resolved_component(part.name, values, model)
        return self._known[known]


def resolve_parameters(field: str, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a cell's part, checked, with the defaults filled in.

    Args:
        field: "data", "backbone" or "head".
        name: of the part.
        given: values by name.

    Raises:
        UserError: an unknown name or parameter, or a value that is not allowed.
    """
    try:
        catalog = _catalog(field, tuple(plugin_files()))
        if name not in catalog and (_has_strangers(field) or ":" in name):
            raise NotStatic(f"{name} may be registered in a way that only importing tells")
        if name in catalog and completes(catalog.get(name).node, KINDS[field].decorator):
            raise NotStatic(f"{name} completes its parameters by looking at files")
        model = _model(field, name, catalog.get(name))
    except NotStatic:
        return _resolve_by_import(field, name, given)
    return resolve_with(f"{KINDS[field].noun} {name!r}", model, given)


def check_known(field: str, name: str) -> None:
    """Make sure that there is a data source, backbone, head or section of that name.

    Raises:
        UserError: there is none; the message lists those that there are.
    """
    try:
        catalog = _catalog(field, tuple(plugin_files()))
    except NotStatic:
        return
    if not _has_strangers(field):
        catalog.get(name)


def defining_module(field: str, name: str) -> SourceModule:
    """The module that defines a data source, backbone or head.

    Args:
        field: "data", "backbone" or "head".
        name: of the part; there is one of that name.

    Raises:
        NotStatic: its source is not to be had.
    """
    kind = KINDS[field]
    family, colon, _ = name.partition(":")
    decorator = f"{kind.decorator}_family" if colon else kind.decorator
    try:
        for module in _modules(kind, tuple(plugin_files())):
            for node in module.tree.body:
                if not isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                    continue
                if family in decorated_names(node, decorator):
                    return module
    except NotStatic:
        pass
    return _imported_module(field, name)


def _imported_definition(field: str, name: str) -> Callable[..., Any]:
    from marginbench.backbones import backbone_function
    from marginbench.data import data_source_function
    from marginbench.heads import head_class

    find = {"data": data_source_function, "backbone": backbone_function, "head": head_class}
    return find[field](name)


def _imported_module(field: str, name: str) -> SourceModule:
    module = inspect.getmodule(_imported_definition(field, name))
    if module is None or module.__file__ is None:
        raise NotStatic(f"{name} is defined in no file")
    path = Path(module.__file__)
    return plugin_source(path) if path in plugin_files() else source_module(module.__name__)


@cache
def _catalog(field: str, plugins: tuple[Path, ...]) -> Registry[_Definition]:
    kind = KINDS[field]
    registry: Registry[_Definition] = Registry(kind.noun)
    for module in _modules(kind, plugins):
        for node in module.tree.body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                for name in decorated_names(node, kind.decorator):
                    origin = f"{module.name}.{node.name}"
                    registry.add(name, _Definition(module, node), origin)
    return registry


def _modules(kind: Kind, plugins: tuple[Path, ...]) -> Iterator[SourceModule]:
    if kind.package:
        yield from source_modules_in(kind.package)
    else:
        for point in sorted(entry_points(group=kind.group), key=lambda point: point.name):
            try:
                yield from source_modules_in(point.module)
            except NotStatic:
                if point.module.startswith("marginbench."):
                    raise
    for file in plugins:
        yield plugin_source(file)


def _model(field: str, name: str, definition: _Definition) -> type[BaseModel]:
    owner = f"{KINDS[field].noun} {name!r}"
    return _static_model(owner, definition.module.name, definition)


def _parameter_model(field: str, name: str) -> type[BaseModel]:
    """Of a part that there is, read off its source if that can be done."""
    try:
        catalog = _catalog(field, tuple(plugin_files()))
        if name in catalog:
            return _model(field, name, catalog.get(name))
    except NotStatic:
        pass
    return parameter_model(f"{KINDS[field].noun} {name!r}", _imported_definition(field, name))


_models: dict[tuple[str, str], type[BaseModel]] = {}


def _static_model(owner: str, module: str, definition: _Definition) -> type[BaseModel]:
    if (owner, module) not in _models:
        _models[owner, module] = static_model(owner, definition.module, definition.node)
    return _models[owner, module]


def _has_strangers(field: str) -> bool:
    """Whether other packages add entries of a kind; theirs may be hidden from a mere reader."""
    group = KINDS[field].group
    return bool(group) and any(
        not point.module.startswith("marginbench.") for point in entry_points(group=group)
    )


def _resolve_by_import(field: str, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    for file in _light_plugin_files:
        load_plugin_file(file)
    from marginbench.backbones import resolve_backbone_parameters
    from marginbench.data import resolve_data_parameters
    from marginbench.heads import resolve_head_parameters

    resolvers = {
        "data": resolve_data_parameters,
        "backbone": resolve_backbone_parameters,
        "head": resolve_head_parameters,
    }
    return resolvers[field](name, dict(given))
