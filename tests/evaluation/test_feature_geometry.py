"""Angles and norms of features whose places are known."""

import math

import numpy as np
import pytest
import torch

from marginbench.evaluation.feature_geometry import feature_geometry


def on_circle(degrees, length=1.0):
    radians = math.radians(degrees)
    return [length * math.cos(radians), length * math.sin(radians)]


def test_two_classes_at_right_angles():
    places = [(-10, 1), (10, 3), (80, 2), (100, 2)]
    features = torch.tensor([on_circle(*place) for place in places])
    found = feature_geometry(features, torch.tensor([0, 0, 1, 1]), 2)
    assert found["angle_to_centre"] == pytest.approx(10, abs=1e-4)
    assert found["angle_between_centres"] == pytest.approx(90, abs=1e-4)
    assert found["angle_to_nearest_centre"] == pytest.approx(90, abs=1e-4)
    assert found["compactness_ratio"] == pytest.approx(1 / 9, abs=1e-5)
    assert found["feature_norm"] == pytest.approx(2)
    assert found["feature_norm_deviation"] == pytest.approx(np.std([1, 3, 2, 2], ddof=1))


def test_pairs_and_nearest_ones_of_three_classes():
    features = torch.tensor([on_circle(angle) for angle in (0, 30, 120)])
    found = feature_geometry(features, torch.arange(3), 3)
    assert found["angle_between_centres"] == pytest.approx((30 + 90 + 120) / 3, abs=1e-4)
    assert found["angle_to_nearest_centre"] == pytest.approx((30 + 30 + 90) / 3, abs=1e-4)


def test_many_classes_are_taken_in_parts():
    """More classes than rows of a part: the same as from the whole matrix."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1500, 6, generator=generator, dtype=torch.float64)
    found = feature_geometry(features, torch.arange(1500), 1500)
    unit = (features / features.norm(dim=1, keepdim=True)).numpy()
    angles = np.degrees(np.arccos(np.clip(unit @ unit.T, -1, 1)))
    np.fill_diagonal(angles, np.nan)
    assert found["angle_between_centres"] == pytest.approx(np.nanmean(angles))
    assert found["angle_to_nearest_centre"] == pytest.approx(np.nanmin(angles, axis=1).mean())


def test_what_cannot_be_measured_is_none():
    one_class = feature_geometry(torch.ones(3, 2), torch.zeros(3, dtype=torch.int64), 4)
    assert one_class["angle_to_centre"] == pytest.approx(0, abs=1e-4)
    assert one_class["angle_between_centres"] is None
    assert one_class["compactness_ratio"] is None
    nothing = feature_geometry(torch.zeros(3, 2), torch.tensor([0, 1, 1]), 2)
    assert nothing["angle_to_centre"] is None
    assert nothing["feature_norm"] == 0
