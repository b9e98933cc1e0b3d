"""What is seen of a model at each look: its features, error rates and the test images' hardness."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from marginbench.backbones import Backbone
from marginbench.data import ImageData
from marginbench.evaluation.visual_hardness import Hardness, hardness_of, summary
from marginbench.experiments.cells import Cell
from marginbench.heads import Head
from marginbench.heads.geometry import direction

BATCH = 1024
TRAIN_SAMPLE = 10_000
COMPARED_CLASSES = 1_000


class Model(Protocol):
    """What is evaluated: a cell's data and model on a device, trained to whatever iteration.

    The images are on any device, the labels on the model's.
    :class:`marginbench.training.experiment.Experiment` is one; its attributes are described there.
    """

    cell: Cell
    device: torch.device
    data: ImageData
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    backbone: Backbone
    head: Head

    def features(self, images: Tensor) -> Tensor:
        """uint8 images (N, C, H, W) on the device → features (N, D)."""


@torch.no_grad()
def compute_features(model: Model, images: Tensor) -> Tensor:
    """Features (N, D), float32, of uint8 images on any device; the backbone in testing mode."""
    model.backbone.eval()
    parts = [model.features(part.to(model.device)).float() for part in images.split(BATCH)]
    return torch.cat(parts)


@torch.no_grad()
def error_rate(model: Model, features: Tensor, labels: Tensor) -> float:
    """The share of images whose highest logit (margin off) is not their label's."""
    model.head.eval()
    wrong = sum(
        (model.head.logits(part).argmax(dim=1) != truth).sum()
        for part, truth in zip(features.split(BATCH), labels.split(BATCH), strict=True)
    )
    return int(wrong) / len(labels)


def error_rates(model: Model) -> dict[str, float | None]:
    """train_error and test_error, in [0, 1]; None without test images.

    With test images and a head of class weights the numbers of
    :func:`marginbench.evaluation.visual_hardness.summary` too, of the same features and logits.

    The training error is taken in testing mode on the training images (the first 10,000 of the
    data source's order shuffled by a fixed seed, where there are more). A head without logits gets
    the class means of all training images first.
    """
    if model.head.tested_by_class_means:
        _set_class_means(model)
    train_images, train_labels = sampled_training_images(model, TRAIN_SAMPLE)
    rates: dict[str, float | None] = {"train_error": None, "test_error": None}
    if len(train_images):
        rates["train_error"] = error_rate(
            model, compute_features(model, train_images), train_labels
        )
    if len(model.test_images):
        features = compute_features(model, model.test_images)
        hardness = hardness_of_test_images(model, features)
        if hardness is None:
            rates["test_error"] = error_rate(model, features, model.test_labels)
        else:
            rates["test_error"] = int(hardness.wrong.sum()) / len(features)
            if all(bool(one.isfinite().all()) for one in hardness):
                rates |= summary(hardness)
    return rates


@torch.no_grad()
def hardness_of_test_images(model: Model, features: Tensor) -> Hardness | None:
    """The hardness of the test images; None of a head without class weights or with too many.

    Args:
        model: of at most 1,000 classes, or there is none.
        features: (N, D), of all test images.
    """
    model.head.eval()
    weights = model.head.classifier_weights()
    if weights is None or len(weights) > COMPARED_CLASSES:
        return None
    parts = [
        hardness_of(part, weights, model.head.logits(part), labels)
        for part, labels in zip(features.split(BATCH), model.test_labels.split(BATCH), strict=True)
    ]
    return Hardness(*(torch.cat(one) for one in zip(*parts, strict=True)))


@torch.no_grad()
def _set_class_means(model: Model) -> None:
    """Mean directions of the training features, class by class, into the head's buffer."""
    classes, width = model.data.num_classes, model.backbone.out_features
    sums = torch.zeros(classes, width, dtype=torch.float64, device=model.device)
    parts = zip(model.train_images.split(BATCH), model.train_labels.split(BATCH), strict=True)
    for images, labels in parts:
        features = compute_features(model, images.to(model.device))
        sums.index_add_(0, labels, direction(features.double()))
    counts = torch.bincount(model.train_labels, minlength=classes)
    model.head.class_means.copy_(sums / counts[:, None])  # type: ignore[operator]


def sampled_training_images(model: Model, at_most: int) -> tuple[Tensor, Tensor]:
    """So many training images, where they are, and their labels, on the device."""
    chosen = sample(len(model.train_labels), at_most)
    images = model.train_images
    return images[chosen.to(images.device)], model.train_labels[chosen.to(model.device)]


def sample(count: int, at_most: int) -> Tensor:
    """Indices of all, or of so many drawn by a fixed seed: a source may come class by class."""
    return torch.arange(count) if count <= at_most else shuffled(count, at_most)


def shuffled(count: int, at_most: int) -> Tensor:
    """Indices of so many, or all if there are fewer, in an order drawn by a fixed seed."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))[:at_most]
