"""Retrieval is that of a loop in float64 and of pytorch-metric-learning."""

import numpy as np
import pytest
import torch
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from torch.nn.functional import normalize

from marginbench.evaluation import RETRIEVAL
from marginbench.evaluation import retrieval as module
from marginbench.evaluation.retrieval import RECALL_AT, retrieval
from marginbench.evaluation.verification_evaluation import retrieval_of_pairs
from tests.evaluation.test_verification_evaluation import made_up


def clouds(sizes=(7, 5, 12, 2, 9), seed=0, noise=0.7, dimensions=6):
    """Unit features around a centre a class, in no order."""
    generator = torch.Generator().manual_seed(seed)
    classes = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    classes = classes[torch.randperm(len(classes), generator=generator)]
    centres = torch.randn(len(sizes), dimensions, generator=generator)
    spread = noise * torch.randn(len(classes), dimensions, generator=generator)
    return normalize(centres[classes] + spread), classes


def brute_force(features, classes):
    """Musgrave et al.'s definitions, one query at a time; Recall@K as Song et al.'s."""
    features, classes = features.double().numpy(), classes.tolist()
    scores = []
    for query, own in enumerate(classes):
        others = [i for i in range(len(classes)) if i != query]
        others.sort(key=lambda i: (-features[query] @ features[i], classes[i] == own))
        right = [classes[i] == own for i in others]
        r = sum(right)
        if r:
            average = sum(sum(right[: i + 1]) / (i + 1) for i in range(r) if right[i]) / r
            recall = [float(any(right[:k])) for k in RECALL_AT]
            scores.append([float(right[0]), sum(right[:r]) / r, average, *recall])
    return np.mean(scores, axis=0)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("block", [1, 100, 2**24])
def test_it_is_brute_forces_in_blocks_of_any_size(monkeypatch, seed, block):
    monkeypatch.setattr(module, "_BLOCK_VALUES", block)
    features, classes = clouds((7, 5, 12, 1, 2, 9), seed)
    found = retrieval(features, classes)
    expected = brute_force(features, classes)
    own = [getattr(found, name) for name in RETRIEVAL] + [value for _, value in found.recall_at]
    np.testing.assert_allclose(own, expected, atol=1e-12)
    assert (found.queries, found.images, found.classes) == (35, 36, 6)
    assert 0.2 < found.map_at_r < 0.95


def test_it_is_pytorch_metric_learnings():
    features, classes = clouds((40, 3, 25, 1, 80), dimensions=4)
    found = retrieval(features, classes)
    calculator = AccuracyCalculator(
        include=("precision_at_1", "r_precision", "mean_average_precision_at_r"),
        k="max_bin_count",
        device=torch.device("cpu"),
        knn_func=nearest,
    )
    theirs = calculator.get_accuracy(features, classes)
    assert found.precision_at_1 == pytest.approx(theirs["precision_at_1"], abs=1e-6)
    assert found.r_precision == pytest.approx(theirs["r_precision"], abs=1e-6)
    assert found.map_at_r == pytest.approx(theirs["mean_average_precision_at_r"], abs=1e-6)


def nearest(query, k, reference, ref_includes_query):
    """What faiss does for it: the k nearest others by Euclidean distance."""
    distance = torch.cdist(query.double(), reference.double())
    if ref_includes_query:
        distance.fill_diagonal_(torch.inf)
    values, indices = distance.topk(k, largest=False)
    return values.float(), indices


def test_collapsed_features_retrieve_nothing():
    found = retrieval(torch.zeros(6, 3), torch.tensor([0, 0, 0, 1, 1, 1]))
    assert (found.precision_at_1, found.map_at_r) == (0, 0)


def test_without_two_images_of_a_class_there_is_none():
    assert retrieval(torch.eye(3), torch.tensor([0, 1, 2])) is None


def test_of_a_protocol_only_the_tested_images_count():
    features, pairs = made_up(tested=(1, 3))
    sides = (side[of_tested(pairs)] for side in (pairs.first, pairs.second))
    images = torch.cat([*sides]).unique()
    unit = normalize(torch.from_numpy(features[images]))
    found = retrieval_of_pairs(features, pairs)
    assert found.images == len(images) < len(features)
    np.testing.assert_allclose(
        [getattr(found, name) for name in RETRIEVAL],
        brute_force(unit, pairs.people[images])[:3],
        atol=1e-12,
    )
    features, pairs = made_up(people_known=False)
    assert retrieval_of_pairs(features, pairs) is None


def of_tested(pairs):
    return torch.isin(pairs.fold, torch.tensor(pairs.tested_folds))
