"""Everything that a cell's training needs, built from the cell alone."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from marginbench.backbones import Backbone, build_backbone
from marginbench.backbones.initial_weights import normalisation_layers
from marginbench.data import ImageData, data_content, load_data
from marginbench.errors import UserError
from marginbench.evaluation.verification_evaluation import check_verification
from marginbench.experiments.cells import FUSED, Cell
from marginbench.heads import Head, build_head
from marginbench.runs.deciding_code import DecidingCode, deciding_code
from marginbench.training.augmentation import CropFlip, draw_crop_flip, padded_bytes
from marginbench.training.batches import check_pairs, check_sample, draw_batches
from marginbench.training.functional_optimiser import FunctionalOptimiser
from marginbench.training.fused_layers import fuse_layers
from marginbench.training.optimisers import build_optimiser
from marginbench.training.orthogonal_training import OrthogonalTraining
from marginbench.training.pretrained import load_pretrained, mean_to_subtract
from marginbench.training.ranks import Ranks
from marginbench.training.regularisation import Regularisation, build_regularisation
from marginbench.training.seeds import seeded
from marginbench.training.sharded_classifier import ShardedClassifier, can_be_sharded
from marginbench.training.streaming import BatchStream, resident_limit
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
        train_images, test_images: (N, C, H, W), uint8, on the device; on the CPU where they are
            streamed.
        train_labels, test_labels: (N,), on the device.
        mean_image: (C, H, W), float32, in [0, 1]: of the training images, or what the weights that
            the backbone began with were made for.
        batches: (iterations, batch_size), on the device.
        ranks: the processes that train this cell; own_batches and crop_flip_codes are this one's
            part of each batch.
        own_batches: (iterations, batch_size / ranks), on the device.
        stream: brings each batch where the images do not fit on the device, else None.
        crop_flip: the training images as augmentation reads them, or None.
        crop_flip_codes: (iterations, batch_size / ranks), uint8, on the device, or None.
        backbone, head: the model.
        optimiser: of both.
        regularisation: what is added to the loss, or None.
        rotations: of the backbone's neurons, where these are all that is trained of them, or None.
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
    stream: BatchStream | None
    crop_flip: CropFlip | None
    crop_flip_codes: Tensor | None
    backbone: Backbone
    head: Head
    optimiser: FunctionalOptimiser
    regularisation: Regularisation | None
    rotations: OrthogonalTraining | None

    def __post_init__(self) -> None:
        compiled = self.cell.execution == "compiled"
        if self.cell.execution == FUSED:
            fuse_layers(self.backbone)
        if self.ranks.size > 1:
            synchronise_normalisation(self.backbone, self.device)
        self._training_backbone: nn.Module = (
            torch.compile(self.backbone, backend=COMPILER)  # type: ignore[assignment]
            if compiled
            else self.backbone
        )
        self._training_head: nn.Module = self.head
        self.sharded: ShardedClassifier | None = None

    def connect_ranks(self) -> None:
        """Let gradients flow between the ranks; to be called by all of them, before training.

        A classifier whose loss is taken in chunks is cut here: each rank keeps its classes.
        """
        self._training_backbone = self.ranks.wrap(self._training_backbone, self.device)
        # Gradients are clipped by the norm of all of them, of which a rank with some has a part.
        whole = self.cell.optimiser.clip_norm > 0
        # A regulariser of the classifier has to see every class.
        whole = whole or (self.regularisation is not None and self.regularisation.of_classifier)
        if not whole and can_be_sharded(self.head, self.cell.schedule.batch_size, self.ranks):
            self.sharded = ShardedClassifier(self.head, self.optimiser, self.ranks)
        # Every rank draws the same sample of classes, and has its whole gradient.
        sampled = self.head.many_classes.sampled_classes < 1
        alone = ["weight"] if self.sharded is not None or sampled else []
        self._training_head = self.ranks.wrap(self.head, self.device, alone)

    def whole_classifier(self) -> contextlib.AbstractContextManager[None]:
        """Within it rank 0 has all classes; to be entered by every rank."""
        return contextlib.nullcontext() if self.sharded is None else self.sharded.whole()

    def training_mode(self) -> None:
        """Backbone and head as they train; batch normalisation that is frozen stays as it is."""
        self.backbone.train()
        self.head.train()
        if self.cell.backbone.parameters.get("frozen_normalisation"):
            for layer in normalisation_layers(self.backbone):
                layer.eval()

    def features(self, images: Tensor) -> Tensor:
        """uint8 images (N, C, H, W) on the device → features (N, D), in the cell's precision."""
        with self._precision():
            return self.backbone(self._inputs(images))

    def training_features(self, own: Tensor, codes: Tensor | None) -> Tensor:
        """The features of a whole batch, the same on every rank.

        Args:
            own: (B / ranks,), indices of training images: this rank's part of the batch. Where
                the images are streamed, they are those that the stream loaded last.
            codes: (B / ranks,), their augmentation, or None.

        Returns:
            (B, D), every rank's part.
        """
        images = None if self.stream is None else self.stream.batch
        if self.crop_flip is None or codes is None:
            inputs = self._inputs(self.train_images[own] if images is None else images)
        elif images is None:
            inputs = self.crop_flip(own, codes)
        else:
            inputs = self.crop_flip.of_images(images, codes)
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


def build_model(
    cell: Cell,
    image_shape: tuple[int, int, int],
    num_classes: int,
    device: torch.device,
    *,
    with_first_weights: bool = True,
) -> tuple[Backbone, OrthogonalTraining | None, Head]:
    """Backbone, the rotations of its neurons if these are trained, and head.

    Each is initialised from its own seed, and the generators of torch are left as they were.

    Args:
        cell: resolved.
        image_shape: (C, H, W).
        num_classes: K.
        device: of the model.
        with_first_weights: see :func:`build_experiment`.

    Raises:
        UserError: parameters that do not go together, or weights that the backbone cannot begin
            with.
    """
    with seeded(cell.seed, "backbone"):
        backbone = build_backbone(cell.backbone.name, image_shape, cell.backbone.parameters)
    if with_first_weights:
        load_pretrained(backbone, cell.backbone)
    backbone.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    rotations = None
    if cell.training.kind == "opt":
        rotations = OrthogonalTraining(backbone, cell.training, cell.seed)
    with seeded(cell.seed, "head"):
        head = build_head(
            cell.head.name, backbone.out_features, num_classes, **cell.head.parameters
        ).to(device)
    return backbone, rotations, head


def build_experiment(
    cell: Cell,
    device: torch.device,
    ranks: Ranks | None = None,
    *,
    with_first_weights: bool = True,
) -> Experiment:
    """Load the data, draw the batches, initialise backbone and head from their own seeds.

    Args:
        cell: resolved.
        device: where everything is to live.
        ranks: the processes that train the cell together, connected; None for this one alone.
        with_first_weights: whether the file of the weights that the backbone begins with is read;
            without it mean_image is not known until a checkpoint is.

    Raises:
        UserError: data that is missing or damaged, parameters that do not go together, bf16 on a
            device other than CUDA, or weights that the backbone cannot begin with.
    """
    if cell.precision == "bf16" and device.type != "cuda":
        raise UserError(
            f"cell: precision = 'bf16' needs a CUDA device, and this one is {device.type!r}; "
            "allowed here: 'float32'"
        )
    data = load_data(cell.data.name, cell.data.parameters, cell.seed)
    check_sample(cell, data.num_classes)
    batches = draw_batches(data.train_labels, cell.schedule, cell.seed)
    backbone, rotations, head = build_model(
        cell, data.image_shape, data.num_classes, device, with_first_weights=with_first_weights
    )
    for pairs in data.verification:
        check_verification(pairs, cell.verification, backbone.out_features)
    if head.needs_pairs:
        check_pairs(data.train_labels, cell.schedule, cell.head.name)
    mean_image = mean_to_subtract(backbone, data.train_images)
    codes = draw_crop_flip(cell.schedule, cell.seed)
    ranks = ranks or Ranks()
    own_batches = ranks.own_part(batches)
    size = data.train_images.numel() + data.test_images.numel()
    size += padded_bytes(data.train_images) if codes is not None else 0
    streamed = size > resident_limit(device)
    kept_on = torch.device("cpu") if streamed else device
    # Nothing is cropped from them, only from the batches that come.
    croppable = data.train_images[:0] if streamed else data.train_images
    return Experiment(
        cell=cell,
        code=deciding_code(cell),
        content=data_content(cell.data),
        device=device,
        data=data,
        train_images=data.train_images.to(kept_on),
        train_labels=data.train_labels.to(device),
        test_images=data.test_images.to(kept_on),
        test_labels=data.test_labels.to(device),
        mean_image=mean_image.to(device),
        batches=batches.to(device),
        ranks=ranks,
        own_batches=own_batches.to(device),
        stream=BatchStream(data.train_images, own_batches, device) if streamed else None,
        crop_flip=None if codes is None else CropFlip(croppable, mean_image, device),
        crop_flip_codes=None if codes is None else ranks.own_part(codes).to(device),
        backbone=backbone,
        head=head,
        optimiser=build_optimiser(backbone, head, cell.optimiser),
        regularisation=build_regularisation(cell, backbone, head, device),
        rotations=rotations,
    )
