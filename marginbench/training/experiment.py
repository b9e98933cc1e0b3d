"""Everything that a cell's training needs, built from the cell alone."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from marginbench.backbones import Backbone, build_backbone
from marginbench.data import ImageData, data_content, load_data
from marginbench.errors import UserError
from marginbench.evaluation.verification_evaluation import check_verification
from marginbench.experiments.cell_fields import Schedule
from marginbench.experiments.cells import Cell
from marginbench.heads import Head, build_head
from marginbench.runs.deciding_code import DecidingCode, deciding_code
from marginbench.training.augmentation import CropFlip, draw_crop_flip
from marginbench.training.batches import check_pairs, draw_batches
from marginbench.training.functional_optimiser import FunctionalOptimiser
from marginbench.training.optimisers import build_optimiser
from marginbench.training.ranks import Ranks
from marginbench.training.seeds import seeded
from marginbench.training.synchronised_normalisation import synchronise_normalisation

COMPILER = "inductor"


@dataclass
class Experiment:
    """A cell's data, model and optimiser on a device, at iteration 0.

    Attributes:
        cell: resolved.
        code: that decides the cell's numbers.
        content: of the data, see :func:`marginbench.data.data_content`.
        device: where everything lives.
        data: as loaded, on the CPU.
        train_images, test_images: (N, C, H, W), uint8, on the device.
        train_labels, test_labels: (N,), on the device.
        mean_image: (C, H, W), float32, of the training images, in [0, 1].
        batches: (iterations, batch_size), on the device.
        ranks: the processes that train this cell; own_batches and crop_flip_codes are this one's
            part of each batch.
        own_batches: (iterations, batch_size / ranks), on the device.
        crop_flip: the training images as augmentation reads them, or None.
        crop_flip_codes: (iterations, batch_size / ranks), uint8, on the device, or None.
        backbone, head: the model.
        optimiser: of both.
    """

    cell: Cell
    code: DecidingCode
    content: str
    device: torch.device
    data: ImageData
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    mean_image: Tensor
    batches: Tensor
    ranks: Ranks
    own_batches: Tensor
    crop_flip: CropFlip | None
    crop_flip_codes: Tensor | None
    backbone: Backbone
    head: Head
    optimiser: FunctionalOptimiser

    def __post_init__(self) -> None:
        compiled = self.cell.execution == "compiled"
        if self.ranks.size > 1:
            synchronise_normalisation(self.backbone, self.device)
        self._training_backbone: nn.Module = (
            torch.compile(self.backbone, backend=COMPILER)  # type: ignore[assignment]
            if compiled
            else self.backbone
        )
        self._training_head: nn.Module = self.head

    def connect_ranks(self) -> None:
        """Let gradients flow between the ranks; to be called by all of them, before training."""
        self._training_backbone = self.ranks.wrap(self._training_backbone, self.device)
        self._training_head = self.ranks.wrap(self.head, self.device)

    def features(self, images: Tensor) -> Tensor:
        """uint8 images (N, C, H, W) on the device → features (N, D), in the cell's precision."""
        with self._precision():
            return self.backbone(self._inputs(images))

    def training_features(self, own: Tensor, codes: Tensor | None) -> Tensor:
        """The features of a whole batch, the same on every rank.

        Args:
            own: (B / ranks,), indices of training images: this rank's part of the batch.
            codes: (B / ranks,), their augmentation, or None.

        Returns:
            (B, D), every rank's part.
        """
        if self.crop_flip is not None and codes is not None:
            inputs = self.crop_flip(own, codes)
        else:
            inputs = self._inputs(self.train_images[own])
        with self._precision():
            features = self._training_backbone(inputs)
        return self.ranks.all_features(features)

    def training_loss(self, features: Tensor, batch: Tensor) -> Tensor:
        """The loss of a whole batch.

        Args:
            features: (B, D), of :meth:`training_features`.
            batch: (B,), indices of training images.

        Returns:
            A scalar, the same on every rank.
        """
        return self._training_head(features, self.train_labels.index_select(0, batch))

    def _inputs(self, images: Tensor) -> Tensor:
        inputs = images.float().div_(255).sub_(self.mean_image)
        return inputs.contiguous(memory_format=torch.channels_last)

    def _precision(self) -> contextlib.AbstractContextManager[object]:
        if self.cell.precision == "bf16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return contextlib.nullcontext()


def build_experiment(cell: Cell, device: torch.device, ranks: Ranks | None = None) -> Experiment:
    """Load the data, draw the batches, initialise backbone and head from their own seeds.

    Args:
        cell: resolved.
        device: where everything is to live.
        ranks: the processes that train the cell together, connected; None for this one alone.

    Raises:
        UserError: data that is missing or damaged, parameters that do not go together, bf16 on a
            device other than CUDA.
    """
    if cell.precision == "bf16" and device.type != "cuda":
        raise UserError(
            f"cell: precision = 'bf16' needs a CUDA device, and this one is {device.type!r}; "
            "allowed here: 'float32'"
        )
    data = load_data(cell.data.name, cell.data.parameters, cell.seed)
    batches = draw_batches(data.train_labels, cell.schedule, cell.seed)
    with seeded(cell.seed, "backbone"):
        backbone = build_backbone(cell.backbone.name, data.image_shape, cell.backbone.parameters)
        backbone.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    with seeded(cell.seed, "head"):
        head = build_head(
            cell.head.name, backbone.out_features, data.num_classes, **cell.head.parameters
        ).to(device)
    for pairs in data.verification:
        check_verification(pairs, cell.verification, backbone.out_features)
    if head.needs_pairs:
        check_pairs(batches, data.train_labels, cell.head.name)
    mean_image = _mean_image(data.train_images)
    codes = draw_crop_flip(cell.schedule, cell.seed)
    ranks = ranks or Ranks()
    own_batches = ranks.own_part(batches)
    return Experiment(
        cell=cell,
        code=deciding_code(cell),
        content=data_content(cell.data),
        device=device,
        data=data,
        train_images=data.train_images.to(device),
        train_labels=data.train_labels.to(device),
        test_images=data.test_images.to(device),
        test_labels=data.test_labels.to(device),
        mean_image=mean_image.to(device),
        batches=batches.to(device),
        ranks=ranks,
        own_batches=own_batches.to(device),
        crop_flip=None if codes is None else CropFlip(data.train_images, mean_image, device),
        crop_flip_codes=None if codes is None else ranks.own_part(codes).to(device),
        backbone=backbone,
        head=head,
        optimiser=build_optimiser(backbone, head, cell.optimiser),
    )


def count_rate_cuts(losses: Sequence[float], schedule: Schedule) -> int:
    """How often the learning rate was cut because the training loss got no better.

    A function of the losses alone, so that a resumed run has the rate of an undisturbed one.

    Args:
        losses: of the evaluations so far, in order.
        schedule: its plateau_patience is 0 for never.
    """
    best, waited, cuts = math.inf, 0, 0
    for loss in losses:
        if loss < best - schedule.plateau_threshold * abs(best) or math.isinf(best):
            best, waited = loss, 0
            continue
        waited += 1
        if 0 < schedule.plateau_patience <= waited and cuts < schedule.plateau_cuts:
            cuts, waited = cuts + 1, 0
    return cuts


def _mean_image(images: Tensor) -> Tensor:
    """Mean of the training images, in [0, 1], summed exactly whatever their number."""
    total = torch.zeros(images.shape[1:], dtype=torch.int64)
    for part in images.split(4096):
        total += part.sum(dim=0, dtype=torch.int64)
    return (total.double() / (255 * len(images))).float()
