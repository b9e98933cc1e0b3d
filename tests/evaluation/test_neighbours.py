"""The images kept for the picture of nearest neighbours."""

import dataclasses

import numpy as np
import pytest
import torch

from marginbench.data.choices.class_pairs import pairs_of_classes
from marginbench.evaluation import neighbours as module
from marginbench.evaluation.neighbours import LARGEST_SIDE, NEIGHBOURS, QUERIES, neighbours
from marginbench.evaluation.retrieval import retrieval
from marginbench.evaluation.verification_evaluation import neighbours_of_pairs
from tests.evaluation.test_retrieval import clouds


def numbered(count, side=3):
    """Images that say which one they are."""
    return torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, side, side)


def test_they_are_brute_forces():
    features, classes = clouds((7, 5, 12, 1, 2, 9, 4, 4))
    features[3] = features[5] * 2
    found = neighbours(features.numpy(), classes, numbered(len(classes)))
    own = (features / features.norm(dim=1, keepdim=True)).double().numpy()
    assert found["indices"].shape == (QUERIES, 1 + NEIGHBOURS)
    assert len({int(classes[query]) for query in found["indices"][:, 0]}) == QUERIES
    for query, *nearest in found["indices"]:
        others = [i for i in range(len(own)) if i != query]
        expected = sorted(others, key=lambda i, q=query: -own[q] @ own[i])[:NEIGHBOURS]
        assert nearest == expected
    cosines = [own[row[1:]] @ own[row[0]] for row in found["indices"]]
    np.testing.assert_allclose(found["cosine"], cosines, atol=1e-6)
    right = classes[found["indices"][:, 1:]] == classes[found["indices"][:, :1]]
    assert np.array_equal(found["right"], right.numpy())
    assert 0 < found["right"].mean() < 1
    assert np.array_equal(found["images"][:, :, 0, 0, 0], found["indices"])


def test_of_all_images_the_nearest_are_what_precision_at_1_counts(monkeypatch):
    monkeypatch.setattr(module, "_queries", lambda classes: torch.arange(len(classes)))
    features, classes = clouds((2, 3, 4) * 8)
    # Collapsed features: all similarities are equal, and another class comes first.
    for some, at_least in ((features, 0.2), (torch.ones_like(features) / 6**0.5, 0)):
        found = neighbours(some.numpy(), classes, numbered(len(classes)))
        whole = retrieval(some, classes).precision_at_1
        assert found["right"][:, 0].mean() == pytest.approx(whole, abs=1e-12)
        assert whole >= at_least
    assert whole == 0


def test_the_queries_are_the_same_whatever_the_features():
    features, classes = clouds((7, 5, 12, 1, 2, 9))
    images = numbered(len(classes), side=2 * LARGEST_SIDE)
    first, second = (neighbours(f.numpy(), classes, images) for f in (features, -features.flip(0)))
    assert np.array_equal(first["indices"][:, 0], second["indices"][:, 0])
    assert not np.array_equal(first["indices"], second["indices"])
    assert first["images"].shape[3:] == (LARGEST_SIDE, LARGEST_SIDE)
    assert not neighbours(features.numpy(), torch.arange(len(classes)), images)


@pytest.mark.parametrize("shown", [True, False])
def test_images_that_may_not_be_shown_are_not_kept(shown):
    features, classes = clouds((6, 6, 6, 6))
    images = numbered(len(classes)).numpy()
    pairs = pairs_of_classes(images, classes.numpy(), [0, 1], "abcd")
    assert pairs.may_be_shown
    pairs = dataclasses.replace(pairs, may_be_shown=shown)
    assert bool(neighbours_of_pairs(features[: len(pairs.images)].numpy(), pairs)) == shown
