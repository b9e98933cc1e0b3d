"""Data sources: what a cell trains on, tests on and verifies on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from marginbench.errors import UserError
from marginbench.plugins.component import Component
from marginbench.plugins.folder_imports import import_all_modules
from marginbench.plugins.parameters import resolve
from marginbench.plugins.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class VerificationPairs:
    """Pairs of images to tell apart: same class or not.

    The folds of a protocol: thresholds (and PCA) for a fold are fitted on all the other folds.
    Where only some folds are tested, the rest serve that choice alone.

    Attributes:
        name: short and unique in a data set: "lfw", "cfp_fp".
        images: (M, C, H, W), uint8.
        first, second: (P,), int64, indices into images.
        same: (P,), bool.
        fold: (P,), int64, 0…F−1.
        description: what is verified, for the report.
        tested_folds: those whose accuracy counts; None for all of them.
        people: (M,), int64, whose image each one is (a person, or a class), by numbers of this
            set alone: in another cell's set the same number is somebody else; None where that is
            not known.
        image_names: M names for the report ("Aaron_Peirsol 1"); empty where there are none.
    """

    name: str
    images: Tensor
    first: Tensor
    second: Tensor
    same: Tensor
    fold: Tensor
    description: str
    tested_folds: tuple[int, ...] | None = None
    people: Tensor | None = None
    image_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImageData:
    """Images and labels, whole in memory.

    Attributes:
        train_images, test_images: (N, C, H, W), uint8; no test images (N = 0) where all that is
            tested is verification.
        train_labels, test_labels: (N,), int64, in [0, K).
        class_names: K names.
        verification: sets of pairs of classes not trained on.
        remarks: sentences for the report: what was left out, and by which list.
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    class_names: tuple[str, ...]
    verification: tuple[VerificationPairs, ...] = ()
    remarks: tuple[str, ...] = ()

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
    "data source", lambda: import_all_modules(f"{__name__}.sources")
)


Completion = Callable[[dict[str, Any]], dict[str, Any]]

_completions: dict[str, Completion] = {}

_contents: dict[str, Callable[[], str]] = {}


def data_source(
    name: str, *, complete: Completion | None = None, content: Callable[[], str] | None = None
) -> Callable[[DataSource], DataSource]:
    """Function decorator: make a data source known. Keyword-only arguments are its parameters.

    Args:
        name: what a cell calls it.
        complete: takes the checked parameters and fills in what only the files can tell, a hash
            of their content say, so that it becomes part of the cell's key.
        content: of a set that everybody has, whose content is no parameter: see
            :func:`data_content`.
    """

    def add(function: DataSource) -> DataSource:
        _registry.add(name, function, _registry.definition(function))
        if complete is not None:
            _completions[name] = complete
        if content is not None:
            _contents[name] = content
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


def resolve_data_parameters(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a data source, checked, with the defaults filled in.

    Raises:
        UserError: an unknown source or parameter, a value that is not allowed, or files that are
            not there, of a source whose parameters they complete.
    """
    values = resolve(f"data source {name!r}", _registry.get(name), given)
    complete = _completions.get(name)
    return values if complete is None else complete(values)


def is_completed_from_files(name: str) -> bool:
    """Whether a source's parameters are completed by what its files hold, such as their hash."""
    return name in _completions


def load_data(name: str, given: Mapping[str, Any]) -> ImageData:
    """The images and labels of a source, checked for shape and label range.

    Raises:
        UserError: an unknown source or parameter, or data that is damaged.
    """
    # Here, since what only names a source does without it.
    import torch

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
    for pairs in data.verification:
        _check_pairs(f"data source {name!r}: verification set {pairs.name!r}", pairs, data)
    return data


def data_content(data: Component) -> str:
    """A hash of the images and labels that a cell's data has now, to be kept with its result.

    Of a set that everybody has (MNIST, say) the key tells the name only. Where its files are
    others than they were, results and checkpoints are of other data: this hash says so.

    Args:
        data: of a resolved cell.

    Returns:
        16 characters; "" where the files are not there (they are fetched on first use). Of data
        whose content is one of its parameters, that one, and no file is looked at.

    Raises:
        UserError: an unknown source, or files that are damaged or cannot be read.
    """
    _registry.get(data.name)
    if data.name in _contents:
        return _contents[data.name]()
    return str(data.parameters.get("content", ""))


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


def _check_pairs(owner: str, pairs: VerificationPairs, data: ImageData) -> None:
    import torch

    count = len(pairs.images)
    if pairs.images.dtype != torch.uint8 or pairs.images.shape[1:] != data.train_images.shape[1:]:
        raise UserError(
            f"{owner}: its images are {pairs.images.dtype} {tuple(pairs.images.shape[1:])}, and "
            f"those trained on are uint8 {data.image_shape}; they must be alike"
        )
    indices = torch.cat([pairs.first, pairs.second])
    if len(indices) == 0 or indices.min() < 0 or indices.max() >= count:
        raise UserError(f"{owner}: its pairs must be of images 0 to {count - 1}, at least one pair")
    tested = pairs.tested_folds
    folds = set(pairs.fold.tolist())
    if len(folds) < 2 or (tested is not None and not set(tested) <= folds):
        raise UserError(
            f"{owner}: it has the folds {sorted(folds)} and tests {tested}; "
            "two folds or more are needed, one of them to choose the threshold on"
        )
