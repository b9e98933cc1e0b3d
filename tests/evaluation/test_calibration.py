"""Calibration errors of logits whose probabilities are known."""

import pytest
import torch
from scipy import optimize

from marginbench.evaluation.calibration import (
    calibration_error,
    fitted_temperature,
    scaled_calibration,
)


def drawn(count=4000, classes=5, scale=1.0, seed=0):
    """Logits times a scale, and labels drawn with the probabilities of the unscaled ones."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(count, classes, generator=generator, dtype=torch.float64)
    labels = torch.multinomial(logits.softmax(dim=1), 1, generator=generator)[:, 0]
    return scale * logits, labels


def test_the_error_of_two_bins_by_hand():
    """Confidence 0.9, right 1 of 2; confidence 0.6, right 2 of 2: (2·0.4 + 2·0.4)/4."""
    odds = torch.tensor([0.9, 0.9, 0.6, 0.6], dtype=torch.float64)
    logits = torch.stack([odds.log(), (1 - odds).log()], dim=1)
    labels = torch.tensor([0, 1, 0, 0])
    assert calibration_error(logits, labels) == pytest.approx(0.4)


def test_true_probabilities_are_calibrated_and_sharper_ones_are_not():
    assert calibration_error(*drawn()) < 0.03
    assert calibration_error(*drawn(scale=4.0)) > 0.15


def test_the_temperature_has_the_least_cross_entropy():
    logits, labels = drawn(scale=3.0)

    def entropy(temperature):
        return float(torch.nn.functional.cross_entropy(logits / temperature, labels))

    known = optimize.minimize_scalar(entropy, bounds=(0.5, 9), method="bounded")
    assert fitted_temperature(logits, labels) == pytest.approx(known.x, rel=1e-3)
    assert known.x == pytest.approx(3, rel=0.1)


def test_scaling_mends_what_a_temperature_can_mend():
    logits, labels = drawn(scale=4.0)
    error, temperature = scaled_calibration(logits, labels)
    assert error < 0.03
    assert temperature == pytest.approx(4, rel=0.1)
    # Whatever the scale was, the same comes out.
    assert scaled_calibration(10 * logits, labels)[0] == pytest.approx(error, abs=1e-6)


def test_all_right_needs_no_finite_temperature():
    error, temperature = scaled_calibration(torch.eye(4), torch.arange(4))
    assert error == pytest.approx(0, abs=1e-6)
    assert 0 < temperature < 1e-5
