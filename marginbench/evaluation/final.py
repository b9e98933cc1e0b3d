"""What a trained (or half-trained) model is worth: error rates, features, verification."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from marginbench.backbones import Backbone
from marginbench.data import ImageData, VerificationPairs
from marginbench.evaluation import RETRIEVAL
from marginbench.evaluation.calibration import calibration_error, scaled_calibration
from marginbench.evaluation.feature_geometry import feature_geometry
from marginbench.evaluation.one_shot import one_shot
from marginbench.evaluation.verification_evaluation import (
    evaluate_verification,
    retrieval_of_pairs,
)
from marginbench.experiments.cells import Cell
from marginbench.heads import Head
from marginbench.heads.geometry import direction

BATCH = 1024
TRAIN_SAMPLE = 10_000
DRAWN_SAMPLE = 5_000
CALIBRATED_SAMPLE = 10_000
DRAWN_DIMENSIONS = 3
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

    The training error is taken in testing mode on the training images (the first 10,000 of the
    data source's order shuffled by a fixed seed, where there are more). A head without logits gets
    the class means of all training images first.
    """
    if model.head.tested_by_class_means:
        _set_class_means(model)
    train_images, train_labels = _sampled_training_images(model, TRAIN_SAMPLE)
    rates: dict[str, float | None] = {}
    for name, images, labels in (
        ("train_error", train_images, train_labels),
        ("test_error", model.test_images, model.test_labels),
    ):
        rates[name] = (
            error_rate(model, compute_features(model, images), labels) if len(images) else None
        )
    return rates


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


def final_evaluation(model: Model) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Numbers for the result and arrays for the figures.

    Returns:
        numbers: verification, one entry a set of pairs (see
            :func:`evaluate_verification`), and of the first
            set verification_accuracy, verification_standard_error (in [0, 1]) and
            verification_of, and where its people are known those of
            :data:`marginbench.evaluation.RETRIEVAL`; one_shot_error and one_shot where the data has
            such a task; with test images those of :func:`feature_geometry`, and
            calibration_error, scaled_calibration_error (see
            :mod:`marginbench.evaluation.calibration`) and temperature.
        arrays: with test images test_right, whether each was classified right, as bits in bytes
            (``numpy.packbits``), and with at most 1,000 classes class_cosine (K, K), mean cosine
            between test features by class; of features with at most 3 dimensions, the features
            and labels themselves; of each set of pairs verification/NAME/scores, same and fold.
    """
    numbers: dict[str, Any] = {}
    arrays: dict[str, np.ndarray] = {}
    if len(model.test_images):
        features = compute_features(model, model.test_images)
        arrays |= _class_arrays(model, features)
        arrays["test_right"], found = _answers(model, features)
        numbers |= found
    sets = [_verify(model, pairs) for pairs in model.data.verification]
    for found, of_pairs in sets:
        arrays |= {f"verification/{found['name']}/{key}": a for key, a in of_pairs.items()}
    if sets:
        first = sets[0][0]
        numbers["verification_accuracy"] = first["accuracy"]
        numbers["verification_standard_error"] = first["standard_error"]
        numbers["verification_of"] = first["description"]
        numbers |= {name: first["retrieval"][name] for name in RETRIEVAL if first["retrieval"]}
        numbers["verification"] = [found for found, _ in sets]
    if model.data.one_shot is not None:
        features = verification_features(model, model.data.one_shot.images).cpu()
        found = one_shot(features, model.data.one_shot)
        numbers |= {"one_shot_error": 1 - found.accuracy, "one_shot": asdict(found)}
    return numbers, arrays


def recorded_retrieval(model: Model) -> dict[str, float]:
    """Numbers of the first set of pairs for a row of the history; none unless the cell asks.

    They are those of :data:`marginbench.evaluation.RETRIEVAL`, by name.
    """
    if not (model.cell.verification.record_retrieval and model.data.verification):
        return {}
    pairs = model.data.verification[0]
    features = verification_features(model, pairs.images).cpu().numpy()
    found = retrieval_of_pairs(features, pairs)
    return {name: getattr(found, name) for name in RETRIEVAL if found is not None}


def verification_features(model: Model, images: Tensor) -> Tensor:
    """Features (M, D), or (M, 2·D) where the mirror image's are concatenated.

    Args:
        model: its cell says what the mirror image is for.
        images: (M, C, H, W), uint8, on any device.
    """
    mirror = model.cell.verification.mirror
    parts = []
    for part in images.split(BATCH):
        on_device = part.to(model.device)
        features = compute_features(model, on_device)
        if mirror != "none":
            mirrored = compute_features(model, on_device.flip(3))
            features = (
                features + mirrored if mirror == "sum" else torch.cat([features, mirrored], dim=1)
            )
        parts.append(features)
    return torch.cat(parts)


def _verify(model: Model, pairs: VerificationPairs) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    features = verification_features(model, pairs.images).cpu().numpy()
    return evaluate_verification(features, pairs, model.cell.verification)


@torch.no_grad()
def _answers(model: Model, test: Tensor) -> tuple[np.ndarray, dict[str, Any]]:
    """The bits of test_right, and the numbers of geometry and calibration."""
    labels = model.test_labels
    model.head.eval()
    right = torch.cat([model.head.logits(part).argmax(dim=1) for part in test.split(BATCH)])
    numbers: dict[str, Any] = dict(feature_geometry(test, labels, model.data.num_classes))
    # Drawn in an order that has nothing to do with the classes.
    chosen = _shuffled(len(labels), CALIBRATED_SAMPLE).to(model.device)
    logits = torch.cat([model.head.logits(part) for part in test[chosen].split(BATCH)])
    if len(chosen) > 1 and torch.isfinite(logits).all():
        numbers["calibration_error"] = calibration_error(logits, labels[chosen])
        scaled, temperature = scaled_calibration(logits, labels[chosen])
        numbers |= {"scaled_calibration_error": scaled, "temperature": temperature}
    return np.packbits((right == labels).cpu().numpy()), numbers


def _class_arrays(model: Model, test: Tensor) -> dict[str, np.ndarray]:
    arrays = {}
    labels = model.test_labels
    if model.data.num_classes <= COMPARED_CLASSES:
        arrays["class_cosine"] = class_cosine(test, labels, model.data.num_classes)
    if test.shape[1] <= DRAWN_DIMENSIONS:
        train_images, train_labels = _sampled_training_images(model, DRAWN_SAMPLE)
        arrays["train_features"] = compute_features(model, train_images).cpu().numpy()
        arrays["train_labels"] = train_labels.cpu().numpy()
        chosen = _sample(len(labels), DRAWN_SAMPLE).to(model.device)
        arrays["test_features"] = test[chosen].cpu().numpy()
        arrays["test_labels"] = labels[chosen].cpu().numpy()
        arrays["class_weights"] = _class_weights(model)
    return arrays


def class_cosine(features: Tensor, labels: Tensor, num_classes: int) -> np.ndarray:
    """Mean cosine between features of class a and of class b, a pair never an image with itself.

    The matrix of Liu et al., ICML 2016, Fig. 5. NaN where there is no such pair.

    Args:
        features: (N, D).
        labels: (N,), in [0, K).
        num_classes: K.

    Returns:
        (K, K), float64.
    """
    unit = direction(features.double())
    sums = unit.new_zeros(num_classes, unit.shape[1]).index_add_(0, labels, unit)
    counts = torch.bincount(labels, minlength=num_classes).double()
    # A zero feature has no direction: its cosine with itself is 0, not 1.
    own = unit.square().sum(dim=1)
    itself = own.new_zeros(num_classes).index_add_(0, labels, own)
    totals = sums @ sums.T - torch.diag(itself)
    pairs = torch.outer(counts, counts) - torch.diag(counts)
    return torch.where(pairs > 0, totals / pairs, torch.nan).cpu().numpy()


def _sampled_training_images(model: Model, at_most: int) -> tuple[Tensor, Tensor]:
    """So many training images, where they are, and their labels, on the device."""
    chosen = _sample(len(model.train_labels), at_most)
    images = model.train_images
    return images[chosen.to(images.device)], model.train_labels[chosen.to(model.device)]


def _sample(count: int, at_most: int) -> Tensor:
    """Indices of all, or of so many drawn by a fixed seed: a source may come class by class."""
    return torch.arange(count) if count <= at_most else _shuffled(count, at_most)


def _shuffled(count: int, at_most: int) -> Tensor:
    """Indices of so many, or all if there are fewer, in an order drawn by a fixed seed."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))[:at_most]


def _class_weights(model: Model) -> np.ndarray:
    """The head's class weights (K, D), or none (0, D) where it has not one vector a class."""
    weight = getattr(model.head, "weight", None)
    shape = (model.data.num_classes, model.backbone.out_features)
    if isinstance(weight, Tensor) and tuple(weight.shape) == shape:
        return weight.detach().cpu().numpy()
    return np.empty((0, shape[1]), dtype=np.float32)
