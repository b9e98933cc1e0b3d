"""Finding modules' source without importing them, and reading names and classes off it."""

from __future__ import annotations

import ast
import importlib.util
import pkgutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from marginbench import LAZY_NAMES

OWN_PACKAGE = __name__.partition(".")[0]


class NotStatic(Exception):
    """Something that only importing the module would show."""


@dataclass(frozen=True)
class SourceModule:
    """A module's source, parsed.

    Attributes:
        name: its dotted name, or a plug-in file's path.
        tree: its syntax tree.
        package: what its relative imports are relative to; "" for a plug-in file.
        text: its source.
    """

    name: str
    tree: ast.Module
    package: str
    text: str = field(repr=False)

    @property
    def file_name(self) -> str:
        """A name for its file: "marginbench/text.py"; of a plug-in file its own, "my_head.py"."""
        if not self.package and self.name.endswith(".py"):
            return Path(self.name).name
        tail = "/__init__.py" if self.package == self.name else ".py"
        return self.name.replace(".", "/") + tail

    @cached_property
    def imports(self) -> dict[str, tuple[str, str]]:
        """Names bound by ``from MODULE import NAME``: name → (module, name there).

        The names that :mod:`marginbench` loads when they are asked for count as imported: its
        table LAZY_NAMES says from where.
        """
        lazy = LAZY_NAMES if self.name == OWN_PACKAGE else {}
        found = {name: (source, name) for name, source in lazy.items()}
        for node in self.tree.body:
            if isinstance(node, ast.ImportFrom):
                source = self._absolute(node)
                for alias in node.names:
                    found[alias.asname or alias.name] = (source, alias.name)
        return found

    @cached_property
    def imported(self) -> frozenset[str]:
        """The modules that it imports, anywhere in its code.

        ``from MODULE import NAME`` counts for the module that NAME comes from, where MODULE, of
        this project or of the module's own package, has it from another one.
        """
        found: set[str] = set()
        for node in statements(self.tree):
            if isinstance(node, ast.ImportFrom):
                source = self._absolute(node)
                names = [alias.name for alias in node.names]
                found |= {_origin(source, n) if self.is_near(source) else source for n in names}
            elif isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
        return frozenset(found)

    def is_near(self, module: str) -> bool:
        """Whether a module is of this project, or of this module's own package."""
        return module.partition(".")[0] in (OWN_PACKAGE, self.package.partition(".")[0])

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self.package.split(".") if self.package else []
        base = parts[: len(parts) - node.level + 1]
        return ".".join([*base, *([node.module] if node.module else [])])


@cache
def source_module(name: str) -> SourceModule:
    """The source of a module by its dotted name; nothing is imported, parents neither.

    Raises:
        NotStatic: there is no such module, or it has no readable Python source.
    """
    spec = _find_spec(name)
    if spec.origin is None or not spec.origin.endswith(".py"):
        raise NotStatic(f"{name} has no Python source")
    is_package = spec.submodule_search_locations is not None
    package = name if is_package else name.rpartition(".")[0]
    return SourceModule(name, *_parse(Path(spec.origin), package))


@cache
def source_modules_in(name: str) -> tuple[SourceModule, ...]:
    """A module, and if it is a package, all modules in it, those of its packages too.

    Raises:
        NotStatic: one of them cannot be read.
    """
    spec = _find_spec(name)
    modules = [source_module(name)]
    for found in pkgutil.iter_modules(spec.submodule_search_locations or []):
        modules += source_modules_in(f"{name}.{found.name}")
    return tuple(modules)


def source_files(name: str) -> dict[str, Path]:
    """The source files of a package, subfolders included, or of a single module.

    Returns:
        File by its name below the module's: "marginbench/runs/lease.py".

    Raises:
        NotStatic: there is no such module, or it has no Python source.
    """
    spec = _find_spec(name)
    if spec.origin is None or not spec.origin.endswith(".py"):
        raise NotStatic(f"{name} has no Python source")
    origin = Path(spec.origin)
    if spec.submodule_search_locations is None:
        return {f"{name}.py": origin}
    found = sorted(origin.parent.rglob("*.py"))
    return {f"{name}/{file.relative_to(origin.parent)}": file for file in found}


@cache
def plugin_source(file: Path) -> SourceModule:
    """A plug-in file's source.

    Raises:
        NotStatic: it does not read or parse.
    """
    return SourceModule(str(file), *_parse(file, ""))


def registered_names(node: ast.stmt, decorator: str) -> list[str]:
    """The names under which a statement registers something.

    Either ``@decorator("name")`` above a definition, or ``decorator("name")(something)``.

    Raises:
        NotStatic: a name that is no literal.
    """
    names: list[Any] = []
    calls: list[ast.expr] = getattr(node, "decorator_list", [])
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        calls = [node.value.func]
    for call in calls:
        if not isinstance(call, ast.Call) or _last_name(call.func) != decorator:
            continue
        values = [*call.args[:1], *(k.value for k in call.keywords if k.arg == "name")]
        if not values or not isinstance(values[0], ast.Constant):
            raise NotStatic(f"line {node.lineno} registers a name that is computed")
        names.append(values[0].value)
    return names


def uses_name(tree: ast.Module, names: set[str]) -> bool:
    """Whether a decorator at the top has one of these names."""
    return any(names & decorator_names(node) for node in tree.body)


def decorator_names(node: ast.stmt) -> set[str]:
    """The last names of a definition's decorators: "suite" of ``@grids.suite("mine")``."""
    decorators = getattr(node, "decorator_list", [])
    return {_last_name(d.func if isinstance(d, ast.Call) else d) for d in decorators}


def statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """Every statement, in functions and classes too."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        for child in ast.iter_child_nodes(waiting.pop()):
            if isinstance(child, ast.stmt):
                yield child
            if isinstance(child, (ast.stmt, ast.excepthandler, ast.match_case)):
                waiting.append(child)


def _origin(module: str, name: str) -> str:
    """The module that ``from module import name`` takes the name from."""
    try:
        source = source_module(module)
        if name in source.imports and source.is_near(source.imports[name][0]):
            return _origin(*source.imports[name])
        if source.package == source.name:
            return _find_spec(f"{module}.{name}").name
    except NotStatic:
        pass
    return module


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _find_spec(name: str) -> ModuleSpec:
    """Like importlib.util.find_spec, but parents are located, not imported."""
    parts = name.split(".")
    try:
        spec = importlib.util.find_spec(parts[0])
    except (ImportError, ValueError):
        spec = None
    for end in range(2, len(parts) + 1):
        if spec is None or spec.submodule_search_locations is None:
            break
        spec = _find_below(".".join(parts[:end]), list(spec.submodule_search_locations))
    if spec is None or spec.name != name:
        raise NotStatic(f"{name} is not found")
    return spec


def _find_below(name: str, locations: list[str]) -> ModuleSpec | None:
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        spec = find(name, locations) if find is not None else None
        if spec is not None:
            return spec
    return None


def _parse(path: Path, package: str) -> tuple[ast.Module, str, str]:
    """What a :class:`SourceModule` has beside its name."""
    try:
        text = path.read_text(encoding="utf-8")
        return ast.parse(text, str(path)), package, text
    except (OSError, SyntaxError, UnicodeDecodeError) as error:
        raise NotStatic(f"{path} does not parse: {error}") from None
