"""Ten folds: the threshold is exact, chosen on the others, and ties follow the stated rule."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marginbench.data import load_data
from marginbench.evaluation.verification import best_threshold, verification_accuracy


def brute_force_best(scores, same):
    """The highest accuracy over every threshold that can matter, tried one by one."""
    candidates = [*scores, max(scores) + 1]
    return max(float(np.mean((scores >= t) == same)) for t in candidates)


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=40))
def test_the_threshold_reaches_the_best_accuracy_there_is(pairs):
    scores = np.array([score for score, _ in pairs], dtype=float) / 3
    same = np.array([value for _, value in pairs])
    threshold = best_threshold(scores, same)
    assert np.mean((scores >= threshold) == same) == brute_force_best(scores, same)


def test_the_threshold_lies_halfway_between_scores():
    assert best_threshold(np.array([0.0, 1.0]), np.array([False, True])) == 0.5


def test_of_equally_good_thresholds_the_middle_one_is_taken():
    scores = np.array([0.0, 1.0, 2.0, 3.0])
    # "same" at 1 and 3 only: cutting before 1, or before 3, is right three times.
    same = np.array([False, True, False, True])
    assert best_threshold(scores, same) == 0.5


def test_neighbouring_floats_are_reported_apart():
    low = 0.1
    high = np.nextafter(low, 1)
    threshold = best_threshold(np.array([low, high]), np.array([False, True]))
    assert threshold == high


def test_all_same_and_all_different():
    scores = np.array([0.1, 0.2])
    assert (scores >= best_threshold(scores, np.array([True, True]))).all()
    assert not (scores >= best_threshold(scores, np.array([False, False]))).any()


def test_folds_agree_with_brute_force_with_many_ties():
    random = np.random.default_rng(0)
    scores = random.integers(0, 12, size=300) / 8
    same = random.random(300) < scores / 1.5
    fold = np.repeat(np.arange(10), 30)
    accuracy = verification_accuracy(scores, same, fold)
    for number in range(10):
        rest = fold != number
        assert np.mean(
            (scores[rest] >= accuracy.thresholds[number]) == same[rest]
        ) == pytest.approx(brute_force_best(scores[rest], same[rest]))
        mine = (scores[~rest] >= accuracy.thresholds[number]) == same[~rest]
        assert accuracy.folds[number] == pytest.approx(mine.mean())
    assert accuracy.mean == pytest.approx(np.mean(accuracy.folds))
    assert accuracy.standard_error == pytest.approx(np.std(accuracy.folds, ddof=1) / 10**0.5)


def test_a_folds_own_labels_never_move_its_threshold():
    random = np.random.default_rng(1)
    scores, same = random.random(200), random.random(200) < 0.5
    fold = np.repeat(np.arange(10), 20)
    flipped = np.where(fold == 9, ~same, same)
    first, second = (verification_accuracy(scores, labels, fold) for labels in (same, flipped))
    assert first.thresholds[9] == second.thresholds[9]
    assert (first.thresholds[:9] != second.thresholds[:9]).any()


def test_the_digits_pairs_keep_to_the_protocol():
    pairs = load_data("digits", {"left_out": [6, 7, 8, 9]}).verification[0]
    assert len(pairs.same) == 10 * 600
    assert pairs.same.sum() == 3000
    images_of = [
        set(pairs.first[pairs.fold == f].tolist()) | set(pairs.second[pairs.fold == f].tolist())
        for f in range(10)
    ]
    for one in range(10):
        for other in range(one):
            assert not images_of[one] & images_of[other]
    drawn = {(a, b) for a, b in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)}
    assert len(drawn) == 6000
    assert all(a != b for a, b in drawn)
