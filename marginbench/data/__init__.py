"""Data sources: what a cell trains on, tests on and verifies on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
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
    """Pairs of images to compare: same class or not.

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
            set alone: in another cell's set the same number is another one; None where that is
            not known.
        image_names: M names for the report ("Aaron_Peirsol 1"); empty where there are none.
        may_be_shown: whether a report may show the images; people's faces are not shown.
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
    may_be_shown: bool = False


@dataclass(frozen=True)
class OneShotRun:
    """Some classes, each known by one image, and images to be classified among them.

    Attributes:
        name: of the run.
        known: (W,), int64, indices of the task's images, one a class.
        tested: (Q,), int64, indices of the task's images.
        answers: (Q,), int64, in [0, W): the class of each.
    """

    name: str
    known: Tensor
    tested: Tensor
    answers: Tensor


@dataclass(frozen=True)
class OneShotTask:
    """One-shot classification of classes that are not trained on.

    Attributes:
        images: (M, C, H, W), uint8.
        runs: one or more.
    """

    images: Tensor
    runs: tuple[OneShotRun, ...]


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
        one_shot: a task of classes not trained on, where there is one.
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    class_names: tuple[str, ...]
    verification: tuple[VerificationPairs, ...] = ()
    remarks: tuple[str, ...] = ()
    one_shot: OneShotTask | None = None

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
        complete: takes the checked parameters and fills in what follows from the files, such as a
            hash of their content, so that it becomes part of the cell's key.
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
    from marginbench.data.checks import check_pairs, check_split

    values = resolve_data_parameters(name, given)
    with _named(name):
        drawn_by = [seed] if values.get("split") == "per-seed" else []
        data = _registry.get(name)(*drawn_by, **values)
        check_split("training", data.train_images, data.train_labels, data.class_names)
        check_split("test", data.test_images, data.test_labels, data.class_names)
        for pairs in data.verification:
            check_pairs(pairs, data)
    return data


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
