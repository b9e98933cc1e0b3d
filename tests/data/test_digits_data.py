"""The digits: real, split once, stratified, and the left-out classes really left out."""

import pytest
import torch
from sklearn.datasets import load_digits

from marginbench.data import load_data
from marginbench.errors import UserError


def test_every_digit_is_in_exactly_one_half():
    data = load_data("digits", {})
    images = torch.cat([data.train_images, data.test_images]).flatten(1)
    original = torch.from_numpy(load_digits().data)
    restored = (images.double() * 16 / 255).round()
    key = lambda rows: sorted(map(tuple, rows.int().tolist()))  # noqa: E731
    assert key(restored) == key(original)
    assert len(data.train_labels) == 898
    assert len(data.test_labels) == 899


def test_the_split_is_stratified_and_fixed():
    first, second = load_data("digits", {}), load_data("digits", {})
    assert torch.equal(first.train_images, second.train_images)
    counts = [torch.bincount(labels) for labels in (first.train_labels, first.test_labels)]
    assert (counts[0] - counts[1]).abs().max() <= 1


def test_left_out_digits_are_in_neither_half():
    data = load_data("digits", {"left_out": [6, 7, 8, 9]})
    assert data.class_names == ("0", "1", "2", "3", "4", "5")
    assert set(data.train_labels.tolist()) == set(range(6))
    everything = {tuple(row) for row in load_data("digits", {}).train_images.flatten(1).tolist()}
    trained = {tuple(row) for row in data.train_images.flatten(1).tolist()}
    verified = {tuple(row) for row in data.verification[0].images.flatten(1).tolist()}
    assert trained < everything
    assert not trained & verified


@pytest.mark.parametrize("left_out", [[3], [3, 3], [0, 1, 2, 3, 4, 5, 6, 7, 8], [10, 1]])
def test_impossible_choices_are_refused(left_out):
    with pytest.raises(UserError, match="left_out"):
        load_data("digits", {"left_out": left_out})
