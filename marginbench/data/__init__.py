"""Data sources: what a cell trains on, tests on and verifies on."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from marginbench.data.image_data import ImageData as ImageData
from marginbench.data.image_data import OneShotRun as OneShotRun
from marginbench.data.image_data import OneShotTask as OneShotTask
from marginbench.data.image_data import VerificationPairs as VerificationPairs
from marginbench.errors import UserError
from marginbench.plugins.component import Component
from marginbench.plugins.folder_imports import import_all_modules
from marginbench.plugins.loading import as_user_error
from marginbench.plugins.parameters import resolve
from marginbench.plugins.registry import Registry

DataSource = Callable[..., ImageData]

_registry: Registry[DataSource] = Registry(
    "data source", lambda: import_all_modules(f"{__name__}.sources")
)

Completion = Callable[[dict[str, Any]], dict[str, Any]]

_completions: dict[str, Completion] = {}

_contents: dict[str, Callable[[], str]] = {}

_unread: dict[str, Callable[[dict[str, Any]], str]] = {}


def data_source(
    name: str,
    *,
    complete: Completion | None = None,
    content: Callable[[], str] | None = None,
    unread: Callable[[dict[str, Any]], str] | None = None,
) -> Callable[[DataSource], DataSource]:
    """Function decorator: make a data source known. Keyword-only arguments are its parameters.

    Args:
        name: what a cell calls it.
        complete: takes the checked parameters and fills in what follows from the files, such as a
            hash of their content, so that it becomes part of the cell's key.
        content: of a set that everybody has, whose content is no parameter: see
            :func:`data_content`.
        unread: takes the parameters, and says which files are there that are not read.
    """

    def add(function: DataSource) -> DataSource:
        _registry.add(name, function, _registry.definition(function))
        if complete is not None:
            _completions[name] = complete
        if content is not None:
            _contents[name] = content
        if unread is not None:
            _unread[name] = unread
        return function

    return add


def data_source_names() -> list[str]:
    """The names of all data sources."""
    return _registry.names()


def data_source_function(name: str) -> DataSource:
    """The function that loads a source's data.

    Raises:
        UserError: there is none; the message lists those that there are.
    """
    return _registry.get(name)


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """A block that reads a source's files, whose errors are to begin with the source."""
    owner = f"data source {name!r}"
    try:
        yield
    except UserError as error:
        if str(error).startswith(owner):
            raise
        raise UserError(f"{owner}: {error}") from error


def resolve_data_parameters(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a data source, checked, with the defaults filled in.

    Raises:
        UserError: an unknown source or parameter, a value that is not allowed, or files that are
            not there, of a source whose parameters they complete.
    """
    values = resolve(f"data source {name!r}", _registry.get(name), given)
    complete = _completions.get(name)
    if complete is None:
        return values
    with _named(name):
        return complete(values)


def is_completed_from_files(name: str) -> bool:
    """Whether a source's parameters are completed by what its files hold, such as their hash."""
    return name in _completions


def load_data(name: str, given: Mapping[str, Any], seed: int = 0) -> ImageData:
    """The images and labels of a source, checked for shape and label range.

    Args:
        name: of the source.
        given: its parameters.
        seed: the cell's, of a split that is drawn by it: a source whose parameter ``split`` is
            "per-seed" takes it as its only positional argument.

    Raises:
        UserError: an unknown source or parameter, or data that is damaged; the message begins
            with the source.
    """
    # Here, since what only names a source does without numpy and torch.
    from marginbench.data.checks import check_loaded

    values = resolve_data_parameters(name, given)
    with _named(name):
        drawn_by = [seed] if values.get("split") == "per-seed" else []
        data = _loaded(name, _registry.get(name), drawn_by, values)
        check_loaded(data)
    return data


def _loaded(
    name: str, source: DataSource, drawn_by: list[int], values: dict[str, Any]
) -> ImageData:
    """What a source returns.

    Of a source that is not built in, errors become one line, types are checked, and arrays are
    taken as tensors.
    """
    if source.__module__.startswith(f"{__name__}."):
        return source(*drawn_by, **values)
    import numpy as np
    import torch

    file = inspect.getsourcefile(source) or ""
    with as_user_error(f"data source {name!r} ({file})", Path(file)):
        data = source(*drawn_by, **values)
    if not isinstance(data, ImageData):
        raise UserError(
            f"it returns a {type(data).__name__}; allowed: marginbench.ImageData, whose images are "
            "uint8 tensors or arrays (N, C, H, W) and whose labels int64 (N,)"
        )
    arrays: dict[str, Any] = {}
    for field in ("train_images", "train_labels", "test_images", "test_labels"):
        value = getattr(data, field)
        if not isinstance(value, (torch.Tensor, np.ndarray)):
            raise UserError(
                f"{field} of its ImageData is a {type(value).__name__}; allowed: a tensor or an "
                "array, all of it in memory (of a torch Dataset: torch.stack its images)"
            )
        arrays[field] = torch.as_tensor(value)
        arrays[field] = arrays[field].long() if field.endswith("labels") else arrays[field]
    return replace(data, class_names=tuple(data.class_names), **arrays)


def data_content(data: Component) -> str:
    """A hash of the images and labels that a cell's data has now, to be kept with its result.

    The key of a public set (MNIST, say) has its name only. Where its files are others than they
    were, results and checkpoints are of other data: this hash shows it.

    Args:
        data: of a resolved cell.

    Returns:
        16 characters; "" where the files are not there (they are fetched on first use). Of data
        whose content is one of its parameters, that one, and no file is read.

    Raises:
        UserError: an unknown source, or files that are damaged or cannot be read.
    """
    _registry.get(data.name)
    if data.name in _contents:
        with _named(data.name):
            return _contents[data.name]()
    return str(data.parameters.get("content", ""))


def are_here(data: Component) -> bool:
    """Whether loading a cell's data would fetch nothing; see :func:`data_content`."""
    return data.name not in _contents or bool(data_content(data))


def unread_files(data: Component) -> str:
    """Which files of a cell's data are there and not read, if any; nothing is decoded.

    Raises:
        UserError: files that are missing or cannot be read.
    """
    if "content" in data.parameters:
        # Of a user's files: for those of a public set no source is imported.
        _registry.get(data.name)
    if data.name not in _unread or not are_here(data):
        return ""
    with _named(data.name):
        values = resolve(f"data source {data.name!r}", _registry.get(data.name), data.parameters)
        return _unread[data.name](values)


def remarks(component: Component, data: ImageData) -> list[str]:
    """Sentences for the report: those of the source, what its images are, and what is not read.

    Args:
        component: a resolved cell's ``data``.
        data: as :func:`load_data` made it of this component.
    """
    from marginbench.data.account import account

    return [*data.remarks, *account(data), *filter(None, [unread_files(component)])]


def check_data(
    components: Iterable[Component],
    remark: Callable[[str, list[str]], object] = lambda name, lines: None,
) -> dict[str, tuple[tuple[int, int, int], int]]:
    """Load each of the data once, so that nothing is trained on what is damaged.

    Args:
        components: the ``data`` of the cells that are to be run.
        remark: called for each with the source's name (and a user's files') and :func:`remarks`.

    Returns:
        Image shape (C, H, W) and number of classes, by a component's JSON.

    Raises:
        UserError: see :func:`load_data`.
    """
    shapes: dict[str, tuple[tuple[int, int, int], int]] = {}
    for component in components:
        text = component.model_dump_json()
        if text not in shapes:
            data = load_data(component.name, component.parameters)
            own = f"{component.name} {component.parameters.get('name', '')}".strip()
            remark(own, remarks(component, data))
            shapes[text] = data.image_shape, data.num_classes
    return shapes
