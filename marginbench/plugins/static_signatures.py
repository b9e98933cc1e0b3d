"""Parameters of heads, backbones and data sources, read off their source: torch stays unloaded.

Parameters are keyword-only arguments with literal defaults, annotated with builtins, ``typing``,
pydantic's ``Field`` and the names of :mod:`parameters`; that much can be evaluated
without running the module around it. What cannot raises
:class:`marginbench.plugins.source_modules.NotStatic`.
"""

from __future__ import annotations

import ast
import builtins
import importlib
from typing import Any

from pydantic import BaseModel

from marginbench.plugins.parameters import make_parameter_model
from marginbench.plugins.source_modules import NotStatic, SourceModule, source_module

# Modules whose names may be used in annotations: light, and without side effects.
LIGHT_MODULES = {
    "annotated_types",
    "collections.abc",
    "marginbench.plugins.parameters",
    "math",
    "pydantic",
    "types",
    "typing",
}
_BUILTINS = ("int", "float", "bool", "str", "tuple", "list", "dict", "set", "frozenset", "type")
_NODES = (
    ast.Attribute,
    ast.BinOp,
    ast.Call,
    ast.Constant,
    ast.Dict,
    ast.List,
    ast.Name,
    ast.Subscript,
    ast.Tuple,
    ast.UnaryOp,
    ast.keyword,
    ast.operator,
    ast.unaryop,
    ast.expr_context,
)


def static_model(
    owner: str, module: SourceModule, node: ast.ClassDef | ast.FunctionDef
) -> type[BaseModel]:
    """The parameters of a class or function as :func:`parameter_model`.

    Args:
        owner: what the parameters belong to, for messages.
        module: where it is defined.
        node: the definition; of a class, its ``__init__`` or the one that it inherits counts.

    Raises:
        NotStatic: an annotation or a default needs the module to run.
    """
    where, function = (
        _initialiser(module, node) if isinstance(node, ast.ClassDef) else (module, node)
    )
    arguments = function.args
    if arguments.kwarg is not None:
        raise NotStatic(f"{owner} takes **{arguments.kwarg.arg}")
    fields: dict[str, Any] = {}
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        if argument.annotation is None or isinstance(argument.annotation, ast.Constant):
            raise NotStatic(f"{owner}: parameter {argument.arg!r} has no plain annotation")
        annotation = _evaluate(where, argument.annotation)
        value = ... if default is None else _evaluate(where, default)
        fields[argument.arg] = (annotation, value)
    return make_parameter_model(owner, fields)


def _initialiser(module: SourceModule, node: ast.ClassDef) -> tuple[SourceModule, ast.FunctionDef]:
    """The ``__init__`` of a class, its own or the first base's that has one."""
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            if item.decorator_list:
                raise NotStatic(f"{node.name}.__init__ is decorated")
            return module, item
    if len(node.bases) != 1 or not isinstance(node.bases[0], ast.Name):
        raise NotStatic(f"{node.name} has no __init__ of its own, and not one plain base")
    return _initialiser(*_class(module, node.bases[0].id))


def _class(module: SourceModule, name: str) -> tuple[SourceModule, ast.ClassDef]:
    if name in module.classes:
        return module, module.classes[name]
    if name in module.imports:
        source, original = module.imports[name]
        return _class(source_module(source), original)
    raise NotStatic(f"class {name} is not found in {module.name}")


def _evaluate(module: SourceModule, node: ast.expr) -> Any:
    for part in ast.walk(node):
        if not isinstance(part, _NODES):
            raise NotStatic(f"{ast.unparse(node)} in {module.name} is not a plain expression")
    code = compile(ast.Expression(node), module.name, "eval")
    try:
        return eval(code, {"__builtins__": {}}, _Names(module))
    except NotStatic:
        raise
    except Exception as error:
        raise NotStatic(f"{ast.unparse(node)} in {module.name}: {error}") from None


class _Names(dict[str, Any]):
    """The names of a module that can be had without running it, looked up as they are needed."""

    def __init__(self, module: SourceModule) -> None:
        super().__init__()
        self._module = module

    def __missing__(self, name: str) -> Any:
        module = self._module
        if name in module.assignments:
            return _evaluate(module, module.assignments[name])
        if name in module.imports:
            source, original = module.imports[name]
            if source in LIGHT_MODULES:
                return getattr(importlib.import_module(source), original)
            return _Names(source_module(source))[original]
        for node in module.tree.body:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    if (alias.asname or alias.name) == name and alias.name in LIGHT_MODULES:
                        return importlib.import_module(alias.name)
        if name in _BUILTINS:
            return getattr(builtins, name)
        raise NotStatic(f"{name} in {module.name} needs the module to run")
