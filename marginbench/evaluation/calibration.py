"""How far a head's confidence is from the share that it gets right, before and after scaling."""

from __future__ import annotations

import torch
from torch import Tensor

BINS = 15
_LOWEST, _HIGHEST, _HALVINGS = -14.0, 14.0, 60


def calibration_error(logits: Tensor, labels: Tensor, bins: int = BINS) -> float:
    """The expected calibration error of softmax(logits): in 15 bins of the same width.

    Guo et al., *On Calibration of Modern Neural Networks*, ICML 2017, Eq. 3: the mean over images
    of |share right − mean confidence| of the bin, the confidence being the highest probability.

    Args:
        logits: (N, K), N ≥ 1.
        labels: (N,).
        bins: of (0, 1].

    Returns:
        In [0, 1].
    """
    confidence, predicted = logits.double().softmax(dim=1).max(dim=1)
    right = (predicted == labels).double()
    place = (confidence * bins).ceil().long().clamp(1, bins) - 1
    gaps = confidence.new_zeros(bins).index_add_(0, place, right - confidence)
    return float(gaps.abs().sum() / len(labels))


def fitted_temperature(logits: Tensor, labels: Tensor) -> float:
    """T with the least mean cross-entropy of softmax(logits / T).

    Its derivative by 1/T rises, so that halving finds where it is 0, to one part in a million; T
    stays within exp(±14), where a sharper or flatter softmax would be better still.
    """
    scores = logits.double()
    target = scores.gather(1, labels[:, None])[:, 0]
    low, high = _LOWEST, _HIGHEST
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        weights = (scores * torch.tensor(middle).exp().to(scores)).softmax(dim=1)
        slope = float(((weights * scores).sum(dim=1) - target).mean())
        low, high = (low, middle) if slope > 0 else (middle, high)
    return float(torch.tensor(-(low + high) / 2, dtype=torch.float64).exp())


def scaled_calibration(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    """The calibration error after temperature scaling, and the temperature.

    There are no images kept for it: T is fitted on every other test image and applied to the rest,
    and the other way round, so that no image is scaled by a T that was fitted on it.

    Args:
        logits: (N, K), N ≥ 2, in an order that has nothing to do with the classes.
        labels: (N,).

    Returns:
        The error of all images, and the geometric mean of both temperatures.
    """
    even = torch.arange(len(labels), device=labels.device) % 2 == 0
    scaled = logits.double().clone()
    product = 1.0
    for fitted_on in (even, ~even):
        temperature = fitted_temperature(logits[fitted_on], labels[fitted_on])
        scaled[~fitted_on] /= temperature
        product *= temperature
    return calibration_error(scaled, labels), product**0.5
