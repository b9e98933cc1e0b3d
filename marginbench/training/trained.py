"""A finished cell's model, to be used on images."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from marginbench.backbones import Backbone
from marginbench.backbones.initial_weights import input_mean
from marginbench.data import load_data
from marginbench.errors import DamagedFile, UserError
from marginbench.experiments.cells import Cell, cell_from_json
from marginbench.heads import Head
from marginbench.plugins.loading import load_plugin_file
from marginbench.runs.result_file import read_result_file
from marginbench.runs.run_files import read_text
from marginbench.training.checkpoint_checks import UnfitCheckpoint, check_state
from marginbench.training.checkpoint_files import read_checkpoint_file
from marginbench.training.experiment import build_experiment
from marginbench.training.orthogonal_training import fold_rotations


class TrainedBackbone(nn.Module):
    """Images as they are stored → features; the input is normalised as in training.

    Attributes:
        backbone: without the normalisation.
        mean_image: (C, H, W), float32, in [0, 1]: what is subtracted from the images, their mean
            over the training images or that of the weights that the backbone began with.
        out_features: D.
    """

    mean_image: Tensor

    def __init__(self, backbone: Backbone, mean_image: Tensor, *, half_on_cuda: bool) -> None:
        super().__init__()
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

    The mean image that is taken off the input is that of the cell's training images, so they
    are loaded too. A cell in bf16 computes in float32 on another device than CUDA.

    Example:
        >>> backbone, head = load_trained("runs/digits/digits-small-softmax-seed0-7e14120448f6")
        >>> with torch.no_grad():
        ...     features = backbone(images)  # uint8, (N, C, H, W)
        ...     predicted = head.logits(features).argmax(dim=1)

    Args:
        run_folder: ``RUNS/SUITE/CELL-KEY``.
        device: where the model is to live.
        plugins: files with the head, backbone and data source, where they are not built in.

    Raises:
        UserError: the folder is missing, its cell is not finished or has diverged, or the training
            images are missing or others than those that it was trained on.
        DamagedFile: a file of the folder does not read well, or does not fit the others.
    """
    for file in plugins:
        load_plugin_file(file)
    folder = Path(run_folder)
    cell = _cell(folder)
    result = _result(folder, cell.key)
    # Compilation and half precision change neither the weights nor their names.
    plain = cell.model_copy(update={"precision": "float32", "execution": "eager"})
    # The checkpoint has the weights: those that the backbone began with need not be there.
    experiment = build_experiment(plain, torch.device("cpu"), with_first_weights=False)
    path = folder / "checkpoint.pt"
    if not path.is_file():
        raise DamagedFile(path, "it is missing, or no file")
    state = read_checkpoint_file(path)
    try:
        check_state(state, cell.key, experiment)
        experiment.backbone.load_state_dict(state["backbone"])
        experiment.head.load_state_dict(state["head"])
    except UnfitCheckpoint as error:
        raise DamagedFile(path, str(error)) from None
    except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise DamagedFile(path, f"it does not fit this cell ({type(error).__name__})") from None
    if state["iteration"] != result["iteration"]:
        raise DamagedFile(
            path, f"it is of iteration {state['iteration']}, the result of {result['iteration']}"
        )
    if state.get("content") != experiment.content:
        raise UserError(
            f"{path} was trained on other images than the data source {cell.data.name!r} has "
            "now; give it the same files as then, or train the cell anew (--retrain-stale)"
        )
    if state.get("code") != experiment.code.digest:
        warnings.warn(
            f"{path} was made by other code; the model may compute otherwise than it did then",
            stacklevel=2,
        )
    fold_rotations(experiment.backbone)
    own = input_mean(experiment.backbone)
    backbone = TrainedBackbone(
        experiment.backbone,
        experiment.mean_image if own is None else own,
        half_on_cuda=cell.precision == "bf16",
    )
    return Trained(backbone.to(device).eval(), experiment.head.to(device).eval())


def images_of_cell(run_folder: str | Path) -> Tensor:
    """The test images of a run folder's cell, else those that it verifies on: (N, C, H, W), uint8.

    Raises:
        UserError: as :func:`load_trained`.
    """
    cell = _cell(Path(run_folder))
    data = load_data(cell.data.name, cell.data.parameters)
    return data.test_images if len(data.test_images) else data.verification[0].images


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


def _result(folder: Path, key: str) -> dict[str, object]:
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
