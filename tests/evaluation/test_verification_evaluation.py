"""From features to a protocol's numbers: PCA on the other folds only, mirror, identification."""

import json

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cosine
from sklearn.decomposition import PCA

from marginbench.data import VerificationPairs
from marginbench.errors import UserError
from marginbench.evaluation.feature_transform import fit_transform, unit_rows
from marginbench.evaluation.identification import identification
from marginbench.evaluation.verification_evaluation import check_verification, evaluate_verification
from marginbench.experiments.cell_fields import Verification

FOLDS, EACH = 5, 24


def made_up(seed=0, dimensions=6, tested=None, people_known=True):
    """Features of five folds of people, eight a fold with three images each, and their pairs."""
    random = np.random.default_rng(seed)
    people = np.repeat(np.arange(FOLDS * 8), 3)
    centres = random.normal(size=(FOLDS * 8, dimensions)) + 1
    features = centres[people] + 0.8 * random.normal(size=(len(people), dimensions))
    first, second, same, fold = [], [], [], []
    for number in range(FOLDS):
        own = np.flatnonzero(people // 8 == number)
        for wanted in (True, False):
            left, right = np.triu_indices(len(own), 1)
            kind = (people[own[left]] == people[own[right]]) == wanted
            chosen = random.choice(np.flatnonzero(kind), size=EACH // 2, replace=False)
            first += own[left[chosen]].tolist()
            second += own[right[chosen]].tolist()
            same += [wanted] * len(chosen)
            fold += [number] * len(chosen)
    pairs = VerificationPairs(
        name="made-up",
        images=torch.zeros(len(people), 1, 2, 2, dtype=torch.uint8),
        first=torch.tensor(first),
        second=torch.tensor(second),
        same=torch.tensor(same),
        fold=torch.tensor(fold),
        description="made-up people",
        tested_folds=tested,
        people=torch.from_numpy(people) if people_known else None,
        image_names=tuple(f"Person_{p} {i}" for i, p in enumerate(people)),
    )
    return features.astype(np.float32), pairs


def brute_force(features, pairs, dimensions, centre=True):
    """Fold by fold with scikit-learn's PCA, SciPy's cosine and every threshold tried."""
    accuracies = []
    tested = range(FOLDS) if pairs.tested_folds is None else pairs.tested_folds
    for number in tested:
        other = (pairs.fold != number).numpy()
        images = sorted({*pairs.first[other].tolist(), *pairs.second[other].tolist()})
        moved = features.astype(np.float64)
        if dimensions:
            moved = PCA(dimensions, svd_solver="full").fit(moved[images]).transform(moved)
        elif centre:
            moved = moved - moved[images].mean(axis=0)
        # Rounded, so that cosines equal but for the last bit tie (in one dimension all do).
        scores = np.array(
            [
                round(1 - cosine(moved[a], moved[b]), 12)
                for a, b in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)
            ]
        )
        same = pairs.same.numpy()
        cuts = np.unique(scores[other])
        middles = [-np.inf, *((cuts[1:] + cuts[:-1]) / 2), np.inf]
        right = [np.sum((scores[other] >= t) == same[other]) for t in middles]
        best = np.flatnonzero(np.array(right) == max(right))
        threshold = middles[best[(len(best) - 1) // 2]]
        accuracies.append(np.mean((scores[~other] >= threshold) == same[~other]))
    return np.mean(accuracies)


@pytest.mark.parametrize("dimensions", [0, 1, 3, 6])
@pytest.mark.parametrize("tested", [None, (2,)])
def test_accuracy_is_brute_forces(dimensions, tested):
    features, pairs = made_up(tested=tested)
    settings = Verification(centre=True, dimensions=dimensions)
    numbers, _ = evaluate_verification(features, pairs, settings)
    expected = brute_force(features, pairs, dimensions)
    assert numbers["accuracy"] == pytest.approx(expected, abs=1e-12)
    assert numbers["tested_pairs"] == (len(pairs.same) if tested is None else EACH)
    by_dimension = dict(numbers["by_dimension"])
    assert list(by_dimension) == [1, 2, 4, 6]
    if dimensions in by_dimension:
        assert by_dimension[dimensions] == pytest.approx(expected, abs=1e-12)


def test_without_centring_the_scores_are_plain_cosines():
    features, pairs = made_up()
    numbers, arrays = evaluate_verification(features, pairs, Verification())
    for position in (0, 17, 80):
        a, b = features[pairs.first[position]], features[pairs.second[position]]
        assert arrays["scores"][position] == pytest.approx(1 - cosine(a, b), abs=1e-6)
    assert numbers["accuracy"] == pytest.approx(brute_force(features, pairs, 0, centre=False))


def test_a_folds_labels_and_features_never_reach_its_own_threshold_or_components():
    features, pairs = made_up()
    settings = Verification(centre=True, dimensions=3)
    flipped = pairs.same.clone()
    flipped[pairs.fold == 4] ^= True
    changed = VerificationPairs(**{**vars(pairs), "same": flipped})
    moved = features.copy()
    moved[4 * 24 :] *= -3
    before = evaluate_verification(features, pairs, settings)[0]
    with_labels = evaluate_verification(features, changed, settings)[0]
    with_features = evaluate_verification(moved, pairs, settings)[0]
    assert with_labels["thresholds"][4] == before["thresholds"][4]
    assert with_features["thresholds"][4] == before["thresholds"][4]
    assert with_labels["thresholds"][:4] != before["thresholds"][:4]
    assert with_features["thresholds"][:4] != before["thresholds"][:4]


def test_everything_is_plain_json_and_deterministic():
    features, pairs = made_up(tested=(1, 3))
    first, second = (evaluate_verification(features, pairs, Verification())[0] for _ in range(2))
    assert json.dumps(first, allow_nan=False) == json.dumps(second, allow_nan=False)
    assert list(first["folds"]) == ["1", "3"]
    assert first["characteristic"]["resampled"] == "people"
    unknown = made_up(people_known=False)[1]
    without = evaluate_verification(features, unknown, Verification())[0]
    assert without["identification"] is None
    assert without["characteristic"]["resampled"] == "pairs"


def test_one_tested_fold_has_no_standard_error_between_folds():
    features, pairs = made_up(tested=(0,))
    assert evaluate_verification(features, pairs, Verification())[0]["standard_error"] is None


def test_the_hardest_pairs_are_named_and_are_the_hardest():
    features, pairs = made_up()
    numbers, arrays = evaluate_verification(features, pairs, Verification())
    hardest = numbers["hardest"]
    assert len(hardest["same"]) == len(hardest["different"]) == 10
    for kind in ("same", "different"):
        person = [(h["first"].split()[0], h["second"].split()[0]) for h in hardest[kind]]
        assert all((a == b) == (kind == "same") for a, b in person)
    thresholds = np.array(numbers["thresholds"])[arrays["fold"]]
    beyond = (arrays["scores"] - thresholds)[arrays["same"]]
    assert hardest["same"][0]["beyond_threshold"] == pytest.approx(beyond.min())


def test_a_transform_keeps_the_largest_variance_first():
    random = np.random.default_rng(0)
    features = random.normal(size=(200, 5)) * [1, 5, 2, 4, 3]
    ours = fit_transform(features, centre=True, components=True)(features, 3)
    theirs = PCA(3, svd_solver="full").fit_transform(features)
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), atol=1e-9)


def test_zero_features_have_cosine_zero():
    unit = unit_rows(np.array([[0.0, 0.0], [3.0, 4.0]]))
    assert unit.tolist() == [[0, 0], [0.6, 0.8]]


@pytest.mark.parametrize(
    ("settings", "limit"),
    [
        (Verification(dimensions=7), "0 to 6"),
        (Verification(dimensions=13, mirror="concatenate"), "0 to 12"),
        (Verification(dimensions=99, mirror="concatenate"), "0 to 12"),
    ],
)
def test_a_pca_that_cannot_be_is_refused(settings, limit):
    pairs = made_up()[1]
    with pytest.raises(UserError, match=limit) as refusal:
        check_verification(pairs, settings, features=6)
    assert f"verification.dimensions = {settings.dimensions}" in str(refusal.value)
    assert "'made-up'" in str(refusal.value)


def brute_force_identification(features, people):
    first, probes, strangers = {}, [], []
    counts = {p: list(people).count(p) for p in people}
    for index, person in enumerate(people):
        if counts[person] == 1:
            strangers.append(index)
        elif person in first:
            probes.append(index)
        else:
            first[person] = index
    ranked = []
    for index in probes:
        scores = {p: float(features[index] @ features[g]) for p, g in first.items()}
        best = max(v for p, v in scores.items() if p != people[index])
        ranked.append((scores[people[index]] > best, max(best, scores[people[index]])))
    alarms = sorted((max(features[i] @ features[g] for g in first.values())) for i in strangers)
    return ranked, alarms


def test_identification_is_brute_forces():
    random = np.random.default_rng(2)
    people = np.concatenate([np.repeat(np.arange(12), 3), np.arange(100, 130)])
    random.shuffle(people)
    centres = random.normal(size=(130, 4))
    features = unit_rows(centres[people] + 0.6 * random.normal(size=(len(people), 4)))
    found = identification(features, people)
    ranked, alarms = brute_force_identification(features, people)
    assert (found.gallery, found.probes, found.strangers) == (12, 24, 30)
    assert found.rank_one == pytest.approx(np.mean([right for right, _ in ranked]))
    assert 0 < found.rank_one < 1
    (tenth, rate), (hundredth, nothing) = found.open_set
    assert (tenth, hundredth, nothing) == (0.1, 0.01, None)
    # Three of thirty strangers may pass: the threshold lies just above the fourth highest.
    assert rate == pytest.approx(np.mean([right and score > alarms[-4] for right, score in ranked]))


def test_a_tie_with_a_wrong_person_counts_as_wrong():
    same = np.ones((4, 1))
    assert identification(same, np.array([0, 0, 1, 1])).rank_one == 0


def test_identification_needs_two_known_people():
    assert identification(np.ones((3, 1)), np.array([0, 0, 1])) is None
