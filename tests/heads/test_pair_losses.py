"""The contrastive and the triplet term, pair by pair and triplet by triplet."""

import itertools
import math

import pytest
import torch

from marginbench.heads.pairs import pair_masks
from tests.heads import head_oracles


def squared_distance(a, b):
    return math.fsum((u - v) ** 2 for u, v in zip(a, b, strict=True))


def unit(x):
    length = math.sqrt(math.fsum(v * v for v in x)) or 1.0  # a zero vector stays one
    return [v / length for v in x]


def mean_cross_entropy(head, features, labels):
    total = [
        head_oracles.cross_entropy((head.weight.detach() @ x).tolist(), label)
        for x, label in zip(features, labels.tolist(), strict=True)
    ]
    return math.fsum(total) / len(total)


@pytest.mark.parametrize("margin", [0.5, 1.0, 6.0])
def test_contrastive_is_the_sum_over_pairs(margin):
    head = head_oracles.double_head("contrastive", margin=margin, weight=0.3)
    features, labels = head_oracles.batch(n=12)
    terms = []
    for i, j in itertools.combinations(range(12), 2):
        squared = squared_distance(features[i].tolist(), features[j].tolist())
        same = labels[i] == labels[j]
        terms.append(squared if same else max(0, margin - math.sqrt(squared)) ** 2)
    expected = mean_cross_entropy(head, features, labels)
    expected += 0.3 * math.fsum(terms) / (2 * len(terms))
    assert head(features, labels).item() == pytest.approx(expected)


def test_center_loss_is_the_papers_for_batch_after_batch():
    head = head_oracles.double_head("center", weight=0.3, center_rate=0.4)
    centers = [[0.0] * 6 for _ in range(5)]
    for seed in range(3):
        # The last class is in no batch.
        features, labels = head_oracles.batch(n=11, k=4, seed=seed)
        rows = list(zip(features.tolist(), labels.tolist(), strict=True))
        terms = [squared_distance(x, centers[y]) for x, y in rows]
        expected = mean_cross_entropy(head, features, labels) + 0.3 * math.fsum(terms) / 22
        leaf = features.clone().requires_grad_()
        loss = head(leaf, labels)
        loss.backward()
        assert loss.item() == pytest.approx(expected)
        # The centres are constants of the gradient.
        plain = features.clone().requires_grad_()
        torch.nn.functional.cross_entropy(plain @ head.weight.T, labels).backward()
        pulled = [[0.3 * (v - c) / 11 for v, c in zip(x, centers[y], strict=True)] for x, y in rows]
        torch.testing.assert_close(leaf.grad - plain.grad, torch.tensor(pulled).double())
        for j in range(4):
            own = [x for x, y in rows if y == j]
            moves = [
                math.fsum(centers[j][d] - x[d] for x in own) / (1 + len(own)) for d in range(6)
            ]
            centers[j] = [c - 0.4 * move for c, move in zip(centers[j], moves, strict=True)]
        torch.testing.assert_close(head.centers, torch.tensor(centers).double())
    before = head.centers.clone()
    head.eval()(features, labels)
    assert torch.equal(head.centers, before)


def triplet_gaps(features, labels, mining):
    """Both squared distances of every triplet that the rule picks, by plain loops."""
    rows, n = [unit(x) for x in features.tolist()], len(labels)
    # Rounded, since all distances from a zero vector are 1, none of them farther than another.
    d = [[round(squared_distance(a, b), 12) for b in rows] for a in rows]
    gaps = []
    for a in range(n):
        positives = [p for p in range(n) if p != a and labels[p] == labels[a]]
        negatives = [q for q in range(n) if labels[q] != labels[a]]
        if mining == "hard" and positives and negatives:
            positives = [max(positives, key=lambda p, a=a: d[a][p])]
            negatives = [min(negatives, key=lambda q, a=a: d[a][q])]
        for p in positives:
            chosen = negatives
            if mining == "semi-hard":
                farther = [q for q in negatives if d[a][q] > d[a][p]]
                chosen = [min(farther, key=lambda q, a=a: d[a][q])] if farther else []
            gaps += [(d[a][p], d[a][q]) for q in chosen]
    return gaps


@pytest.mark.parametrize(("seed", "zero_rows"), [(0, []), (1, []), (2, []), (3, [0, 5, 6])])
@pytest.mark.parametrize("margin", [0.2, 1.0])
@pytest.mark.parametrize("mining", ["all", "semi-hard", "hard"])
def test_triplet_is_the_mean_over_the_mined_triplets(mining, margin, seed, zero_rows):
    head = head_oracles.double_head("triplet", margin=margin, weight=0.7, mining=mining)
    features, labels = head_oracles.batch(n=16, seed=seed)
    features[zero_rows] = 0
    gaps = triplet_gaps(features, labels.tolist(), mining)
    terms = [max(0, same - different + margin) for same, different in gaps]
    expected = mean_cross_entropy(head, features, labels)
    expected += 0.7 * math.fsum(terms) / len(terms)
    assert head(features, labels).item() == pytest.approx(expected)


@pytest.mark.parametrize(("soft", "margin"), [(False, 0.3), (True, 0.3), (True, 0.0)])
@pytest.mark.parametrize("mining", ["all", "semi-hard", "hard"])
def test_triplets_of_plain_distances_and_with_a_soft_margin(mining, soft, margin):
    settings = {"distance": "euclidean", "soft_margin": soft, "mining": mining}
    head = head_oracles.double_head("triplet", margin=margin, weight=0.7, **settings)
    features, labels = head_oracles.batch(n=16)
    features[2] = features[7] = features[12]  # two of a class at no distance
    gaps = triplet_gaps(features, labels.tolist(), mining)
    apart = [math.sqrt(same) - math.sqrt(different) for same, different in gaps]
    terms = [math.log1p(math.exp(g + margin)) if soft else max(0, g + margin) for g in apart]
    expected = mean_cross_entropy(head, features, labels) + 0.7 * math.fsum(terms) / len(terms)
    leaf = features.requires_grad_()
    loss = head(leaf, labels)
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    loss.backward()
    assert leaf.grad.isfinite().all()


def test_semi_hard_leaves_out_pairs_without_a_farther_negative():
    # The anchor's only negative is nearer than its positive, so that this pair has no triplet.
    features = torch.tensor([[1.0, 0.0], [-1.0, 0.1], [1.0, 0.1]], dtype=torch.float64)
    labels = torch.tensor([0, 0, 1])
    semi, every = (
        head_oracles.double_head("triplet", 2, 2, mining=mining).triplet(features, labels).item()
        for mining in ("semi-hard", "all")
    )
    assert semi == 0
    assert every > 1


@pytest.mark.parametrize("name", ["contrastive", "triplet"])
@pytest.mark.parametrize("labels", [[0], [0, 1], [0, 0], [0, 1, 2]])
def test_batches_without_pairs_or_triplets(name, labels):
    head = head_oracles.double_head(name, 6, 3)
    features = torch.randn(len(labels), 6, dtype=torch.float64, requires_grad=True)
    loss = head(features, torch.tensor(labels))
    loss.backward()
    assert features.grad.isfinite().all()
    if name == "triplet":
        expected = mean_cross_entropy(head, features.detach(), torch.tensor(labels))
        assert loss.item() == pytest.approx(expected)


def test_pair_masks_leave_out_the_diagonal():
    same, different = pair_masks(torch.tensor([0, 1, 0]))
    assert same.tolist() == [[False, False, True], [False] * 3, [True, False, False]]
    assert different.tolist() == [[False, True, False], [True, False, True], [False, True, False]]


@pytest.mark.parametrize("norm", ["L1", "L2"])
def test_hinge_is_one_against_the_rest(norm):
    head = head_oracles.double_head("hinge", norm=norm)
    features, labels = head_oracles.batch()
    total = []
    for x, label in zip(features, labels.tolist(), strict=True):
        scores = (head.weight.detach() @ x).tolist()
        terms = [max(0, 1 - (1 if j == label else -1) * f) for j, f in enumerate(scores)]
        total.append(math.fsum(t if norm == "L1" else t * t for t in terms))
    assert head(features, labels).item() == pytest.approx(math.fsum(total) / len(total))
