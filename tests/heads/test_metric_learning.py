"""Against pytorch-metric-learning, for the losses that both have; where it differs, why."""

import math

import pytest
import torch
from pytorch_metric_learning import distances, losses, miners, reducers

from tests.heads import head_oracles

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:pytorch_metric_learning")


def their_weight(head):
    """Our (K, D) or (K, C, D) as their (D, K) or (D, K·C)."""
    return head.weight.detach().reshape(-1, head.in_features).T.clone()


def compare(head, theirs, features, labels, **tolerances):
    """Loss and features' gradient of both."""
    with torch.no_grad():
        theirs.W = torch.nn.Parameter(their_weight(head))
    found = []
    for loss in (head, theirs):
        leaf = features.clone().requires_grad_()
        value = loss(leaf, labels)
        value.backward()
        found.append((value.detach(), leaf.grad))
    (one, gradient), (other, their_gradient) = found
    torch.testing.assert_close(one, other, **tolerances)
    torch.testing.assert_close(gradient, their_gradient, **tolerances)


SAME = [
    ("arcface", {"m": math.radians(28.6), "s": 64.0}, losses.ArcFaceLoss, {}),
    (
        "arcface",
        {"m": math.radians(60), "s": 10.0},
        losses.ArcFaceLoss,
        {"margin": 60, "scale": 10},
    ),
    ("am-softmax", {"s": 64.0}, losses.CosFaceLoss, {}),
    ("normface", {"s": 20.0}, losses.NormalizedSoftmaxLoss, {"temperature": 0.05}),
    ("subcenter-arcface", {"m": math.radians(28.6)}, losses.SubCenterArcFaceLoss, {}),
]
SAME += [("l-softmax", {"m": m}, losses.LargeMarginSoftmaxLoss, {"margin": m}) for m in range(1, 7)]
SAME += [("a-softmax", {"m": m}, losses.SphereFaceLoss, {"margin": m}) for m in range(1, 7)]


@pytest.mark.parametrize(("name", "parameters", "loss", "settings"), SAME)
def test_the_same_loss_and_gradient(name, parameters, loss, settings):
    head = head_oracles.double_head(name, **parameters)
    theirs = loss(num_classes=5, embedding_size=6, **settings)
    features, labels = head_oracles.batch(n=60)
    compare(head, theirs, features, labels, rtol=1e-6, atol=1e-6)


def test_circle_is_theirs_with_the_class_weights_as_references():
    # Theirs is for pairs: with one reference a class it has one positive and K − 1 negatives.
    head = head_oracles.double_head("circle", s=32.0)
    theirs = losses.CircleLoss(m=0.25, gamma=32, reducer=reducers.MeanReducer())
    features, labels = head_oracles.batch(n=40)
    found = theirs(features, labels, ref_emb=head.weight.detach(), ref_labels=torch.arange(5))
    assert head(features, labels).item() == pytest.approx(found.item())


SQUARED = {"normalize_embeddings": True, "power": 2}


def test_triplets_of_all_kinds_are_theirs_with_squared_distances_and_a_plain_mean():
    # By default theirs takes d where FaceNet has d², and averages the non-zero terms only.
    features, labels = head_oracles.batch(n=20)
    settings = {"distance": distances.LpDistance(**SQUARED), "reducer": reducers.MeanReducer()}
    theirs = losses.TripletMarginLoss(margin=0.2, **settings)
    every = head_oracles.double_head("triplet", mining="all")
    assert every.triplet(features, labels).item() == pytest.approx(theirs(features, labels).item())

    hard = head_oracles.double_head("triplet", mining="hard")
    mined = miners.BatchHardMiner(distance=distances.LpDistance(**SQUARED))(features, labels)
    expected = theirs(features, labels, mined).item()
    assert hard.triplet(features, labels).item() == pytest.approx(expected)


def test_semi_hard_of_theirs_takes_every_negative_within_the_margin():
    # Ours takes the nearest negative beyond the positive for each pair, as FaceNet says: so the
    # same terms that are positive, but one of them for each pair instead of all.
    features, labels = head_oracles.batch(n=20)
    head = head_oracles.double_head("triplet", mining="semi-hard", margin=0.6)
    miner = miners.TripletMarginMiner(
        margin=0.6, type_of_triplets="semihard", distance=distances.LpDistance(**SQUARED)
    )
    anchors, positives, negatives = miner(features, labels)
    unit = features / features.norm(dim=1, keepdim=True)
    squared = torch.cdist(unit, unit).square()
    best = {}
    for a, p, q in zip(anchors.tolist(), positives.tolist(), negatives.tolist(), strict=True):
        term = float(squared[a, p] - squared[a, q] + 0.6)
        best[a, p] = max(term, best.get((a, p), 0))
    pairs = sum(
        bool((squared[a, labels != labels[a]] > squared[a, p]).any())
        for a in range(20)
        for p in range(20)
        if a != p and labels[a] == labels[p]
    )
    assert len(anchors) > len(best)
    found = head.triplet(features, labels).item()
    assert found == pytest.approx(math.fsum(best.values()) / pairs)


def test_contrastive_of_theirs_differs_in_its_negative_term():
    # Both have d² for pairs of one class. For others theirs has max(0, M − d²) at power 2 and
    # max(0, M − d) at power 1, never Hadsell's (M − d)²; and it averages each kind by itself.
    head = head_oracles.double_head("contrastive", margin=3.0)
    plain = {"distance": distances.LpDistance(normalize_embeddings=False, power=2)}
    theirs = losses.ContrastiveLoss(neg_margin=3, reducer=reducers.MeanReducer(), **plain)
    features, _ = head_oracles.batch(n=10, scale=0.5)
    same = torch.zeros(10, dtype=torch.int64)
    found = head.contrastive(features, same).item()
    assert found == pytest.approx(theirs(features, same).item() / 2)
    apart = torch.arange(10)
    assert abs(head.contrastive(features, apart).item() - theirs(features, apart).item() / 2) > 0.01


@pytest.mark.parametrize(("end", "slope"), [(1.0, math.cos(math.radians(28.6))), (-1.0, 1.0)])
def test_their_acos_has_no_slope_at_the_ends(end, slope):
    # Its slope there is infinite, and what the clamp makes of that depends on torch (0 of late):
    # an aligned feature is no longer held. Ours keeps the slope of the part in cos θ.
    head = head_oracles.double_head("arcface", m=math.radians(28.6))
    theirs = losses.ArcFaceLoss(num_classes=5, embedding_size=6)
    cosine = torch.tensor([end], dtype=torch.float64, requires_grad=True)
    ours, other = head.psi(cosine), theirs.modify_cosine_of_target_classes(cosine)
    assert ours.item() == pytest.approx(other.item())
    (our_slope,) = torch.autograd.grad(ours, cosine)
    (their_slope,) = torch.autograd.grad(other, cosine)
    assert our_slope.item() == pytest.approx(slope)
    assert their_slope.item() == 0 or not their_slope.isfinite()


def test_theirs_turns_the_slope_round_at_angle_pi():
    # They floor mθ/π, which gives k = m and not m − 1 at θ = π: the same value, another slope.
    loss = losses.LargeMarginSoftmaxLoss(num_classes=2, embedding_size=2, margin=2)
    head = head_oracles.double_head("l-softmax", 2, 2, m=2)
    cosine = torch.tensor([-1.0], dtype=torch.float64, requires_grad=True)
    ours = head.psi(cosine)
    theirs = loss.modify_cosine_of_target_classes(cosine)
    assert ours.item() == theirs.item() == -3
    (slope,) = torch.autograd.grad(ours, cosine)
    (their_slope,) = torch.autograd.grad(theirs, cosine)
    assert (slope.item(), their_slope.item()) == (4, -4)
