"""A finished cell's model, to be used on images."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from marginbench.backbones import Backbone, backbone_function
from marginbench.backbones.initial_weights import input_mean
from marginbench.data import are_here, load_data
from marginbench.errors import DamagedFile, UserError
from marginbench.experiments.cells import Cell, cell_from_json
from marginbench.heads import Head, head_class
from marginbench.plugins.loading import load_plugin_file
from marginbench.runs.deciding_code import deciding_code
from marginbench.runs.result_file import read_result_file
from marginbench.runs.run_files import read_json, read_text
from marginbench.training.checkpoint_checks import (
    DATA,
    UnfitCheckpoint,
    check_entries,
    check_model,
    check_state,
)
from marginbench.training.checkpoint_digests import DIGESTS
from marginbench.training.checkpoint_files import read_checkpoint_file
from marginbench.training.experiment import build_experiment, build_model
from marginbench.training.orthogonal_training import fold_rotations


class TrainedBackbone(nn.Module):
    """Images as they are stored → features; the input is normalised as in training.

    Attributes:
        backbone: without the normalisation.
        mean_image: (C, H, W), float32, in [0, 1]: what is subtracted from the images, their mean
            over the training images or that of the weights that the backbone began with.
        out_features: D.
        class_names: K names, of the head's classes in their order.
    """

    mean_image: Tensor

    def __init__(
        self,
        backbone: Backbone,
        mean_image: Tensor,
        *,
        half_on_cuda: bool,
        class_names: tuple[str, ...],
    ) -> None:
        super().__init__()
        self.class_names = class_names
        self.backbone = backbone
        self.out_features = backbone.out_features
        self.register_buffer("mean_image", mean_image)
        self._half_on_cuda = half_on_cuda

    def forward(self, images: Tensor) -> Tensor:
        """uint8 images (N, C, H, W), of the size trained on → features (N, D), float32.

        Raises:
            UserError: the images have another type or shape.
        """
        wanted = tuple(self.mean_image.shape)
        if images.dtype != torch.uint8 or tuple(images.shape[1:]) != wanted:
            raise UserError(
                f"images of {images.dtype} {tuple(images.shape)} are not allowed; allowed: "
                f"torch.uint8 (N, {', '.join(map(str, wanted))})"
            )
        inputs = images.to(self.mean_image.device).float().div_(255).sub_(self.mean_image)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        kind = self.mean_image.device.type
        half = self._half_on_cuda and kind == "cuda"
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=half):
            features = self.backbone(inputs)
        return features.float()


class Trained(NamedTuple):
    """A model in evaluation mode: ``backbone, head = load_trained(folder)``."""

    backbone: TrainedBackbone
    head: Head


def load_trained(
    run_folder: str | Path,
    device: str | torch.device = "cpu",
    *,
    plugins: Sequence[str | Path] = (),
) -> Trained:
    """The model of a finished cell, with the weights that its result was taken of.

    The run folder is enough, wherever it was copied to: the checkpoint has the mean image that is
    subtracted from the input, and the names of the classes. One by an earlier version has them not:
    then the cell's data are loaded too. A cell in bf16 computes in float32 on another device than
    CUDA.

    Example:
        >>> backbone, head = load_trained("runs/digits/digits-small-softmax-seed0-7e14120448f6")
        >>> with torch.no_grad():
        ...     features = backbone(images)  # uint8, (N, C, H, W)
        ...     predicted = head.logits(features).argmax(dim=1)

    Args:
        run_folder: ``RUNS/SUITE/CELL-KEY``.
        device: where the model is to live.
        plugins: files with the head and the backbone, if they are not built in.

    Raises:
        UserError: the folder is missing, its cell is not finished or has diverged, its head or
            backbone is in a plug-in file that is not given, or, with a checkpoint of an earlier
            version, the training images are missing or others than those that it was trained on.
        DamagedFile: a file of the folder does not read well, or does not fit the others.
    """
    for file in plugins:
        load_plugin_file(file)
    folder = Path(run_folder)
    cell = _cell(folder)
    result = _result(folder, cell.key)
    _check_known(folder, cell)
    path = folder / "checkpoint.pt"
    if not path.is_file():
        raise DamagedFile(path, "it is missing, or no file")
    state = read_checkpoint_file(path)
    try:
        backbone, head, mean_image, class_names = _model(path, state, cell, result)
        backbone.load_state_dict(state["backbone"])
        head.load_state_dict(state["head"])
    except UnfitCheckpoint as error:
        raise DamagedFile(path, str(error)) from None
    except (RuntimeError, KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise DamagedFile(path, f"it does not fit this cell ({type(error).__name__})") from None
    if state["iteration"] != result["iteration"]:
        raise DamagedFile(
            path, f"it is of iteration {state['iteration']}, the result of {result['iteration']}"
        )
    # Of a data source that is in no plug-in file given here, the code is not known.
    with contextlib.suppress(UserError):
        if state.get("code") != deciding_code(cell).digest:
            warnings.warn(
                f"{path} was made by other code; the model may compute otherwise than it did then",
                stacklevel=2,
            )
    fold_rotations(backbone)
    own = input_mean(backbone)
    trained = TrainedBackbone(
        backbone,
        mean_image if own is None else own,
        half_on_cuda=cell.precision == "bf16",
        class_names=class_names,
    )
    return Trained(trained.to(device).eval(), head.to(device).eval())


def _model(
    path: Path, state: dict[str, Any], cell: Cell, result: dict[str, Any]
) -> tuple[Backbone, Head, Tensor, tuple[str, ...]]:
    """Backbone and head without their weights, the mean image and the names of the classes."""
    cpu = torch.device("cpu")
    if DATA in state:
        if DIGESTS not in state:
            raise UnfitCheckpoint(f"its entry {DIGESTS!r} is missing")
        check_entries(state, cell.key)
        if state.get("content") != result.get("content"):
            raise UnfitCheckpoint("it was trained on other images than those of result.json")
        mean_image, class_names = state[DATA]["mean_image"], tuple(state[DATA]["class_names"])
        backbone, _, head = build_model(
            cell, tuple(mean_image.shape), len(class_names), cpu, with_first_weights=False
        )
        check_model("backbone", state["backbone"], backbone)
        check_model("head", state["head"], head)
        return backbone, head, mean_image, class_names
    # Compilation and half precision change neither the weights nor their names.
    plain = cell.model_copy(update={"precision": "float32", "execution": "eager"})
    try:
        experiment = build_experiment(plain, cpu, with_first_weights=False)
    except UserError as error:
        raise UserError(
            f"{path} is of an earlier version, which did not keep the mean of the training images "
            f"and the names of the classes: the data are needed (--data DIR); {error}"
        ) from error
    check_state(state, cell.key, experiment)
    if state.get("content") != experiment.content:
        raise UserError(
            f"{path} was trained on other images than the data source {cell.data.name!r} has "
            "now; give it the same files as then, or train the cell anew (--retrain-stale)"
        )
    names = experiment.data.class_names
    return experiment.backbone, experiment.head, experiment.mean_image, names


def images_of_cell(run_folder: str | Path) -> Tensor:
    """The test images of a run folder's cell, else those that it verifies on: (N, C, H, W), uint8.

    Raises:
        UserError: the data are not here (nothing is fetched), damaged, or other than the cell's.
    """
    cell = _cell(Path(run_folder))
    if not are_here(cell.data):
        raise UserError(f"the files of the data source {cell.data.name!r} are not here")
    data = load_data(cell.data.name, cell.data.parameters)
    return data.test_images if len(data.test_images) else data.verification[0].images


def _check_known(folder: Path, cell: Cell) -> None:
    """Make sure that head and backbone are built in, or in a plug-in file that is loaded."""
    try:
        head_class(cell.head.name)
        backbone_function(cell.backbone.name)
    except UserError as error:
        named = "FILE.py"
        with contextlib.suppress(DamagedFile, KeyError, TypeError):
            # Of the files that decided the cell's numbers, those that are not in a package.
            files = read_json(folder / "environment.json")["code"]["files"]
            named = ", ".join(sorted(name for name in files if "/" not in name)) or named
        raise UserError(
            f"{folder}: {error}; give the plug-in file that defines it: --plugin {named} "
            f"(in Python: load_trained(..., plugins=[{named!r}]))"
        ) from None


def _cell(folder: Path) -> Cell:
    path = folder / "cell.json"
    if not path.exists():
        raise UserError(
            f"{str(folder)!r} is no run folder: it has no cell.json; allowed: RUNS/SUITE/CELL-KEY"
        )
    try:
        return cell_from_json(read_text(path))
    except DamagedFile:
        raise
    except UserError as error:
        raise DamagedFile(path, str(error)) from None


def _result(folder: Path, key: str) -> dict[str, Any]:
    path = folder / "result.json"
    if not path.exists():
        raise UserError(
            f"the cell of {str(folder)!r} is not finished: it has no result.json; train it with "
            "`marginbench run SUITE`"
        )
    result = read_result_file(path, key)
    if result["outcome"] != "finished":
        raise UserError(f"the cell of {str(folder)!r} has diverged: {result['reason']}")
    return result
