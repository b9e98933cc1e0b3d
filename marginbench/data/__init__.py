"""Data sources: what a cell trains on, tests on and verifies on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from marginbench.cells import Component
from marginbench.errors import UserError
from marginbench.folder_imports import import_all_modules
from marginbench.parameters import resolve
from marginbench.registry import Registry


@dataclass(frozen=True)
class VerificationPairs:
    """Pairs of images to tell apart: same class or not.

    Attributes:
        images: (M, C, H, W), uint8.
        first, second: (P,), int64, indices into images.
        same: (P,), bool.
        fold: (P,), int64, 0…F−1; thresholds are chosen on the other folds.
        description: what is verified, for the report.
    """

    images: Tensor
    first: Tensor
    second: Tensor
    same: Tensor
    fold: Tensor
    description: str


@dataclass(frozen=True)
class ImageData:
    """Images and labels, whole in memory.

    Attributes:
        train_images, test_images: (N, C, H, W), uint8.
        train_labels, test_labels: (N,), int64, in [0, K).
        class_names: K names.
        pairs: verification pairs of classes not trained on, or None.
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    class_names: tuple[str, ...]
    pairs: VerificationPairs | None = None

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        channels, height, width = self.train_images.shape[1:]
        return channels, height, width


DataSource = Callable[..., ImageData]

_registry: Registry[DataSource] = Registry(
    "data source", lambda: import_all_modules(__name__, __path__)
)


Completion = Callable[[dict[str, Any]], dict[str, Any]]

_completions: dict[str, Completion] = {}


def data_source(
    name: str, *, complete: Completion | None = None
) -> Callable[[DataSource], DataSource]:
    """Function decorator: make a data source known. Keyword-only arguments are its parameters.

    Args:
        name: what a cell calls it.
        complete: takes the checked parameters and fills in what only the files can tell, a hash
            of their content say, so that it becomes part of the cell's key.
    """

    def add(function: DataSource) -> DataSource:
        _registry.add(name, function, _registry.definition(function))
        if complete is not None:
            _completions[name] = complete
        return function

    return add


def data_source_names() -> list[str]:
    """The names of all data sources."""
    return _registry.names()


def resolve_data_parameters(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a data source, checked, with the defaults filled in.

    Raises:
        UserError: an unknown source or parameter, a value that is not allowed, or files that are
            not there, of a source whose parameters they complete.
    """
    values = resolve(f"data source {name!r}", _registry.get(name), given)
    complete = _completions.get(name)
    return values if complete is None else complete(values)


def load_data(name: str, given: Mapping[str, Any]) -> ImageData:
    """The images and labels of a source, checked for shape and label range.

    Raises:
        UserError: an unknown source or parameter, or data that is damaged.
    """
    data = _registry.get(name)(**resolve_data_parameters(name, given))
    for split, images, labels in (
        ("training", data.train_images, data.train_labels),
        ("test", data.test_images, data.test_labels),
    ):
        if images.dtype != torch.uint8 or images.ndim != 4 or len(images) != len(labels):
            raise UserError(
                f"data source {name!r}: {split} images must be uint8 (N, C, H, W) with N labels; "
                f"they are {images.dtype} {tuple(images.shape)} with {len(labels)} labels"
            )
        counts = torch.bincount(labels, minlength=data.num_classes)
        if len(counts) > data.num_classes:
            raise UserError(
                f"data source {name!r}: {split} label {int(labels.max())} is not allowed; "
                f"allowed: 0 to {data.num_classes - 1}"
            )
        if split == "training" and (counts == 0).any():
            empty = data.class_names[int((counts == 0).nonzero()[0])]
            raise UserError(f"data source {name!r}: class {empty!r} has no training image")
    return data


def check_data(components: Iterable[Component]) -> None:
    """Load each of the data once, so that nothing is trained on what is damaged.

    Args:
        components: the ``data`` of the cells that are to be run.

    Raises:
        UserError: see :func:`load_data`.
    """
    seen: set[str] = set()
    for component in components:
        text = component.model_dump_json()
        if text not in seen:
            seen.add(text)
            load_data(component.name, component.parameters)
