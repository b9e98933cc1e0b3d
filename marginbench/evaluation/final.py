"""What a trained (or half-trained) model is worth: error rates, features, verification."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from marginbench.data import VerificationPairs
from marginbench.evaluation import RETRIEVAL
from marginbench.evaluation.calibration import calibration_error, scaled_calibration
from marginbench.evaluation.class_cosine import class_cosine
from marginbench.evaluation.feature_geometry import feature_geometry
from marginbench.evaluation.looks import (
    BATCH,
    COMPARED_CLASSES,
    Model,
    compute_features,
    hardness_of_test_images,
    sample,
    sampled_training_images,
    shuffled,
)
from marginbench.evaluation.one_shot import one_shot
from marginbench.evaluation.verification_evaluation import (
    evaluate_verification,
    retrieval_of_pairs,
)

DRAWN_SAMPLE = 5_000
CALIBRATED_SAMPLE = 10_000
DRAWN_DIMENSIONS = 3


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
            between test features by class; of a head with class weights hardness/NAME of each test
            image, the names those of :class:`marginbench.evaluation.visual_hardness.Hardness` and
            "label"; of features with at most 3 dimensions, the features and labels themselves;
            of each set of pairs verification/NAME/scores, same and fold.
    """
    numbers: dict[str, Any] = {}
    arrays: dict[str, np.ndarray] = {}
    if len(model.test_images):
        features = compute_features(model, model.test_images)
        arrays |= _class_arrays(model, features)
        arrays |= _hardness_arrays(model, features)
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
    chosen = shuffled(len(labels), CALIBRATED_SAMPLE).to(model.device)
    logits = torch.cat([model.head.logits(part) for part in test[chosen].split(BATCH)])
    if len(chosen) > 1 and torch.isfinite(logits).all():
        numbers["calibration_error"] = calibration_error(logits, labels[chosen])
        scaled, temperature = scaled_calibration(logits, labels[chosen])
        numbers |= {"scaled_calibration_error": scaled, "temperature": temperature}
    return np.packbits((right == labels).cpu().numpy()), numbers


def _hardness_arrays(model: Model, test: Tensor) -> dict[str, np.ndarray]:
    found = hardness_of_test_images(model, test)
    if found is None:
        return {}
    arrays = {name: values.cpu().numpy() for name, values in found._asdict().items()}
    arrays |= {"label": model.test_labels.cpu().numpy().astype(np.int32)}
    floats = ("hardness", "confidence", "norm")
    arrays |= {name: arrays[name].astype(np.float32) for name in floats}
    return {f"hardness/{name}": values for name, values in arrays.items()}


def _class_arrays(model: Model, test: Tensor) -> dict[str, np.ndarray]:
    arrays = {}
    labels = model.test_labels
    if model.data.num_classes <= COMPARED_CLASSES:
        arrays["class_cosine"] = class_cosine(test, labels, model.data.num_classes)
    if test.shape[1] <= DRAWN_DIMENSIONS:
        train_images, train_labels = sampled_training_images(model, DRAWN_SAMPLE)
        arrays["train_features"] = compute_features(model, train_images).cpu().numpy()
        arrays["train_labels"] = train_labels.cpu().numpy()
        chosen = sample(len(labels), DRAWN_SAMPLE).to(model.device)
        arrays["test_features"] = test[chosen].cpu().numpy()
        arrays["test_labels"] = labels[chosen].cpu().numpy()
        arrays["class_weights"] = _class_weights(model)
    return arrays


def _class_weights(model: Model) -> np.ndarray:
    """The head's class weights (K, D), or none (0, D) where it has not one vector a class."""
    weight = getattr(model.head, "weight", None)
    shape = (model.data.num_classes, model.backbone.out_features)
    if isinstance(weight, Tensor) and tuple(weight.shape) == shape:
        return weight.detach().cpu().numpy()
    return np.empty((0, shape[1]), dtype=np.float32)
