"""ROC, area, equal error rate, TAR at FAR, against scikit-learn and brute force; the bootstrap."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from marginbench.evaluation import receiver_operating
from marginbench.evaluation.ranked_rates import Ranking, rates
from marginbench.evaluation.receiver_operating import characteristic


def tied_scores(seed=0, pairs=400, levels=25):
    random = np.random.default_rng(seed)
    same = random.random(pairs) < 0.5
    scores = random.integers(0, levels, size=pairs) / levels + 0.3 * same
    return np.round(scores, 2), same


def brute_force_tar(scores, same, far):
    thresholds = [*np.unique(scores), np.inf]
    allowed = [t for t in thresholds if np.mean(scores[~same] >= t) <= far]
    return max(np.mean(scores[same] >= t) for t in allowed)


@pytest.mark.parametrize("levels", [3, 25, 10**9])
def test_rates_are_scikit_learns(levels):
    scores, same = tied_scores(levels=levels)
    ours = rates(scores, same)
    far, tar, thresholds = roc_curve(same, scores, drop_intermediate=False)
    np.testing.assert_allclose(ours.far[0], far, atol=1e-15)
    np.testing.assert_allclose(ours.tar[0], tar, atol=1e-15)
    np.testing.assert_array_equal(ours.thresholds[1:], thresholds[1:])
    assert ours.area()[0] == pytest.approx(roc_auc_score(same, scores), abs=1e-12)


def test_weighted_rates_are_those_of_repeated_pairs():
    scores, same = tied_scores(levels=8)
    weights = np.random.default_rng(3).integers(0, 4, size=(2, len(scores)))
    ours = rates(scores, same, weights.astype(float))
    for row, weight in enumerate(weights):
        repeated_scores, repeated_same = np.repeat(scores, weight), np.repeat(same, weight)
        assert ours.area()[row] == pytest.approx(roc_auc_score(repeated_same, repeated_scores))
        expected = brute_force_tar(repeated_scores, repeated_same, 0.1)
        assert ours.tar_at(0.1)[row] == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([2, 5, 1000]), st.sampled_from([0.5, 0.1, 0.01, 0.0]))
def test_tar_at_far_is_brute_forces(seed, levels, far):
    scores, same = tied_scores(seed, pairs=60, levels=levels)
    if same.all() or not same.any():
        return
    assert rates(scores, same).tar_at(far)[0] == brute_force_tar(scores, same, far)


def test_equal_error_rate_of_known_curves():
    perfect = rates(np.array([0.9, 0.8, 0.2, 0.1]), np.array([True, True, False, False]))
    assert perfect.equal_error_rate()[0] == 0
    inverted = rates(np.array([0.1, 0.9]), np.array([True, False]))
    assert inverted.equal_error_rate()[0] == 1
    all_tied = rates(np.ones(10), np.arange(10) < 5)
    assert all_tied.equal_error_rate()[0] == pytest.approx(0.5)
    # One of four of each kind is on the wrong side.
    scores = np.array([8, 7, 6, 3, 5, 2, 1, 0], dtype=float)
    assert rates(scores, np.arange(8) < 4).equal_error_rate()[0] == pytest.approx(0.25)


def test_the_equal_error_rate_lies_between_its_neighbours():
    scores, same = tied_scores(levels=6)
    eer = rates(scores, same).equal_error_rate()[0]
    errors = [
        (np.mean(scores[~same] >= t), np.mean(scores[same] < t)) for t in [*np.unique(scores), 9]
    ]
    low = max(min(pair) for pair in errors)
    high = min(max(pair) for pair in errors)
    assert low - 1e-12 <= eer <= high + 1e-12


def test_far_that_the_pairs_cannot_show_is_not_reported():
    scores, same = tied_scores(pairs=6000, levels=10**9)
    points = characteristic(scores, same, same, None, replicates=20).points
    different = int((~same).sum())
    by_far = {point.far: point for point in points}
    assert by_far[0.1].note == ""
    assert by_far[0.01].note == ""
    assert by_far[0.001].note == f"rests on {different // 1000} false acceptances"
    assert by_far[0.0001].tar is None
    assert "too few" in by_far[0.0001].note


def test_intervals_hold_the_value_and_shrink_with_more_pairs():
    widths = []
    for pairs in (200, 5000):
        scores, same = tied_scores(pairs=pairs, levels=10**9)
        found = characteristic(scores, same, (scores > 0.65) == same, None, replicates=300)
        for estimate in (found.area, found.equal_error_rate, found.accuracy):
            assert estimate.low <= estimate.value <= estimate.high
        widths.append(found.area.high - found.area.low)
    assert widths[1] < 0.4 * widths[0]


def test_the_pair_bootstrap_of_accuracy_agrees_with_the_binomial():
    random = np.random.default_rng(5)
    same = np.arange(2000) < 1000
    right = random.random(2000) < 0.8
    estimate = characteristic(random.random(2000), same, right, None).accuracy
    deviation = np.sqrt(right.mean() * (1 - right.mean()) / 2000)
    assert (estimate.high - estimate.low) / (2 * 1.96 * deviation) == pytest.approx(1, abs=0.12)


def test_people_are_resampled_and_widen_what_depends_on_few_of_them():
    # Twenty people; a pair's score hangs on its people alone, so pairs say little more than they.
    random = np.random.default_rng(7)
    quality = random.normal(size=20)
    first, second = random.integers(0, 20, size=(2, 4000))
    same = np.arange(4000) < 2000
    second = np.where(same, first, np.where(second == first, (first + 1) % 20, second))
    scores = same + quality[first] + quality[second]
    by_people = characteristic(scores, same, same, (first, second), replicates=400)
    by_pairs = characteristic(scores, same, same, None, replicates=400)
    assert (by_people.resampled, by_pairs.resampled) == ("people", "pairs")
    wide = by_people.area.high - by_people.area.low
    narrow = by_pairs.area.high - by_pairs.area.low
    assert wide > 3 * narrow


def test_the_same_scores_give_the_same_intervals():
    scores, same = tied_scores()
    people = (np.arange(400) % 30, np.arange(400) % 7)
    assert characteristic(scores, same, same, people, replicates=60) == characteristic(
        scores, same, same, people, replicates=60
    )


@pytest.mark.parametrize("people", [2, 4])
def test_few_people_s_draws_count_as_often_as_they_came(monkeypatch, people):
    scores, same = tied_scores()
    random = np.random.default_rng(11)
    of_pairs = tuple(random.integers(0, people, size=(2, len(scores))))
    counted = []
    rates_of = Ranking.rates
    monkeypatch.setattr(
        Ranking, "rates", lambda self, w: counted.append(len(w)) or rates_of(self, w)
    )
    found = characteristic(scores, same, scores > 0.6, of_pairs, replicates=300)
    few = sum(counted)
    monkeypatch.setattr(receiver_operating, "_FEW_PEOPLE", 0)
    counted.clear()
    assert characteristic(scores, same, scores > 0.6, of_pairs, replicates=300) == found
    # With repetition, as many ways as to choose that many of them: 3 and 35. One more is no draw.
    assert few <= math.comb(2 * people - 1, people) + 1
    assert sum(counted) > few
