"""What features are worth for verification: everything that a report says of one set of pairs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from marginbench.data import VerificationPairs
from marginbench.errors import UserError
from marginbench.evaluation.feature_transform import FeatureTransform, fit_transform, unit_rows
from marginbench.evaluation.identification import identification
from marginbench.evaluation.neighbours import neighbours
from marginbench.evaluation.receiver_operating import characteristic
from marginbench.evaluation.retrieval import Retrieval, retrieval
from marginbench.evaluation.verification import VerificationAccuracy, verification_accuracy
from marginbench.experiments.cell_fields import Verification

HARDEST = 10
"""So many pairs of either kind are named."""


def evaluate_verification(
    features: np.ndarray, pairs: VerificationPairs, settings: Verification
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Accuracy by the protocol, ROC, retrieval, identification, accuracy by PCA, hardest pairs.

    Args:
        features: (M, D), of the pairs' images, mirror images already put in.
        pairs: what is verified.
        settings: centring and PCA.

    Returns:
        numbers: plain values for the result.
        arrays: ``scores``, ``same`` and ``fold`` (Q,) of the tested pairs; where it is known,
            ``people`` (2, Q), whose images they are; ``neighbours/…``, those of
            :func:`neighbours_of_pairs`.
    """
    features = np.asarray(features, dtype=np.float64)
    scorer = _Scorer(features, pairs)
    accuracy = _accuracy(pairs, lambda fold: scorer(fold, settings.centre, settings.dimensions))
    same = pairs.same.numpy()[accuracy.pairs]
    people = None
    if pairs.people is not None:
        first, second = pairs.first.numpy()[accuracy.pairs], pairs.second.numpy()[accuracy.pairs]
        people = (pairs.people.numpy()[first], pairs.people.numpy()[second])
    summary = characteristic(accuracy.scores, same, accuracy.right, people)
    known = _identification(features, pairs, accuracy)
    found = retrieval_of_pairs(features, pairs)
    numbers = {
        "name": pairs.name,
        "description": pairs.description,
        "tested_pairs": len(accuracy.pairs),
        "accuracy": accuracy.mean,
        "standard_error": accuracy.standard_error,
        "folds": dict(
            zip(map(str, accuracy.tested.tolist()), accuracy.folds.tolist(), strict=True)
        ),
        "thresholds": accuracy.thresholds.tolist(),
        "characteristic": asdict(summary),
        "identification": known,
        "retrieval": None if found is None else asdict(found),
        "by_dimension": _by_dimension(scorer, pairs, features.shape[1]),
        "hardest": _hardest(pairs, accuracy),
    }
    arrays = {"scores": accuracy.scores, "same": same, "fold": pairs.fold.numpy()[accuracy.pairs]}
    if people is not None:
        arrays["people"] = np.stack(people)
    shown = neighbours_of_pairs(features, pairs)
    arrays |= {f"neighbours/{name}": values for name, values in shown.items()}
    return numbers, arrays


def retrieval_of_pairs(features: np.ndarray, pairs: VerificationPairs) -> Retrieval | None:
    """Retrieval among the images of a set of pairs, without centring and PCA.

    All its images where all its folds are tested, those that are in no pair among them; else the
    images of the tested pairs.

    Args:
        features: (M, D), of the pairs' images, mirror images already put in.
        pairs: whose images they are.

    Returns:
        None where the people are not known, or none has two images.
    """
    if pairs.people is None:
        return None
    people, chosen = pairs.people, _retrieved_images(pairs)
    unit = unit_rows(np.asarray(features, dtype=np.float64)[chosen])
    return retrieval(torch.from_numpy(unit), people[chosen])


def neighbours_of_pairs(features: np.ndarray, pairs: VerificationPairs) -> dict[str, np.ndarray]:
    """:func:`marginbench.evaluation.neighbours.neighbours` among the images of retrieval.

    Args: as of :func:`retrieval_of_pairs`.

    Returns:
        Empty where there is no retrieval, or the images may not be shown.
    """
    if pairs.people is None or not pairs.may_be_shown:
        return {}
    chosen = _retrieved_images(pairs)
    return neighbours(features[chosen], pairs.people[chosen], pairs.images[chosen])


def _retrieved_images(pairs: VerificationPairs) -> np.ndarray:
    if pairs.tested_folds is None:
        return np.arange(len(pairs.images))
    tested = np.isin(pairs.fold.numpy(), pairs.tested_folds)
    return np.unique(np.concatenate([pairs.first.numpy()[tested], pairs.second.numpy()[tested]]))


def check_verification(pairs: VerificationPairs, settings: Verification, features: int) -> None:
    """Refuse a PCA that cannot be, before anything is trained.

    Args:
        pairs: what is to be verified.
        settings: the cell's.
        features: D, of the backbone.

    Raises:
        UserError: more dimensions than the features have, or than images to fit them on.
    """
    width = features * (2 if settings.mirror == "concatenate" else 1)
    folds = np.unique(pairs.fold.numpy()) if pairs.tested_folds is None else pairs.tested_folds
    fitted_on = min(len(_fitting_images(pairs, int(fold))) for fold in folds)
    if settings.dimensions > min(width, fitted_on - 1):
        raise UserError(
            f"cell: verification.dimensions = {settings.dimensions} is not allowed for the "
            f"verification set {pairs.name!r}; allowed: 0 to {min(width, fitted_on - 1)}, as its "
            f"features have {width} dimensions and {fitted_on} images are there to fit PCA on"
        )


class _Scorer:
    """Scores (P,) of all pairs, with what is fitted on all folds but one."""

    def __init__(self, features: np.ndarray, pairs: VerificationPairs) -> None:
        self._features = features
        self._pairs = pairs
        self._fitted: dict[tuple[int, bool, bool], FeatureTransform] = {}

    def __call__(self, fold: int, centre: bool, dimensions: int) -> np.ndarray:
        # Without anything fitted, the scores are those of any other fold.
        what = (fold if centre or dimensions else -1, centre, dimensions > 0)
        if what not in self._fitted:
            chosen = self._features[_fitting_images(self._pairs, fold)]
            self._fitted[what] = fit_transform(chosen, centre=centre, components=dimensions > 0)
        unit = unit_rows(self._fitted[what](self._features, dimensions))
        return (unit[self._pairs.first.numpy()] * unit[self._pairs.second.numpy()]).sum(axis=1)


def _fitting_images(pairs: VerificationPairs, fold: int) -> np.ndarray:
    """The images of all pairs outside the fold, each once."""
    others = (pairs.fold != fold).numpy()
    return np.unique(np.concatenate([pairs.first.numpy()[others], pairs.second.numpy()[others]]))


def _accuracy(
    pairs: VerificationPairs, scores: Callable[[int], np.ndarray]
) -> VerificationAccuracy:
    return verification_accuracy(scores, pairs.same.numpy(), pairs.fold.numpy(), pairs.tested_folds)


def _by_dimension(scorer: _Scorer, pairs: VerificationPairs, width: int) -> list[tuple[int, float]]:
    """(C, accuracy) after PCA to C = 1, 2, 4, … dimensions, and all of them."""
    folds = np.unique(pairs.fold.numpy()) if pairs.tested_folds is None else pairs.tested_folds
    limit = min([width, *(len(_fitting_images(pairs, int(fold))) - 1 for fold in folds)])
    # Pairs of an image with itself leave nothing to fit on.
    chosen = [2**i for i in range(limit.bit_length()) if 2**i < limit] + [limit] * (limit > 0)
    result = []
    for dimensions in chosen:
        accuracy = _accuracy(pairs, lambda fold, c=dimensions: scorer(fold, True, c))  # type: ignore[misc]
        result.append((dimensions, accuracy.mean))
    return result


def _identification(
    features: np.ndarray, pairs: VerificationPairs, accuracy: VerificationAccuracy
) -> dict[str, Any] | None:
    """On the tested pairs' images, each once; without PCA, which is fitted fold by fold."""
    if pairs.people is None:
        return None
    first, second = pairs.first.numpy()[accuracy.pairs], pairs.second.numpy()[accuracy.pairs]
    images = np.unique(np.concatenate([first, second]))
    found = identification(unit_rows(features[images]), pairs.people.numpy()[images])
    return None if found is None else asdict(found)


def _hardest(pairs: VerificationPairs, accuracy: VerificationAccuracy) -> dict[str, Any] | None:
    """The same pairs furthest below their threshold and the different ones furthest above it."""
    if not pairs.image_names:
        return None
    same = pairs.same.numpy()[accuracy.pairs]
    named = {}
    for kind, chosen, sign in (("same", same, 1), ("different", ~same, -1)):
        indices = np.flatnonzero(chosen)
        order = indices[np.argsort(sign * accuracy.beyond[indices], kind="stable")][:HARDEST]
        named[kind] = [
            {
                "first": pairs.image_names[int(pairs.first[accuracy.pairs[i]])],
                "second": pairs.image_names[int(pairs.second[accuracy.pairs[i]])],
                "score": float(accuracy.scores[i]),
                "beyond_threshold": float(accuracy.beyond[i]),
            }
            for i in order
        ]
    return named
