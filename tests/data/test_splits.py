"""Held-out images, parts of a data set, and classes left out."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from marginbench.data.choices.image_sets import ImageSets, stratified
from marginbench.data.choices.splits import choose_images
from marginbench.errors import UserError


def sets(classes=4, train_each=20, test_each=6):
    """Every image holds its own number, so that it can be seen where it went."""
    count = classes * (train_each + test_each)
    images = np.zeros((count, 1, 2, 2), dtype=np.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = np.arange(count) % 256, np.arange(count) // 256
    split = classes * train_each
    random = np.random.default_rng(0)
    return ImageSets(
        images[:split],
        random.permutation(np.repeat(np.arange(classes), train_each)),
        images[split:],
        random.permutation(np.repeat(np.arange(classes), test_each)),
        tuple("abcdefghij"[:classes]),
    )


def numbers(images):
    return (images[:, 0, 0, 0].int() + 256 * images[:, 0, 0, 1].int()).tolist()


def test_held_out_images_come_from_the_training_set_and_are_not_trained_on():
    whole = sets()
    data = choose_images(whole, validation="held-out")
    train, held = numbers(data.train_images), numbers(data.test_images)
    assert sorted(train + held) == list(range(80))
    assert np.bincount(data.test_labels).tolist() == [2, 2, 2, 2]
    for image, label in zip(train + held, [*data.train_labels, *data.test_labels], strict=True):
        assert whole.train_labels[image] == label


def test_the_split_is_the_papers_for_cifar():
    labels = np.repeat(np.arange(10), 5000)
    images = np.zeros((50_000, 1, 1, 1), dtype=np.uint8)
    names = tuple("0123456789")
    data = choose_images(
        ImageSets(images, labels, images[::5], labels[::5], names),
        validation="held-out",
    )
    assert (len(data.train_images), len(data.test_images)) == (45_000, 5_000)


def test_counts_keep_every_class_its_share():
    data = choose_images(sets(), train_count=40, test_count=8)
    assert np.bincount(data.train_labels).tolist() == [10] * 4
    assert np.bincount(data.test_labels).tolist() == [2] * 4
    assert min(numbers(data.test_images)) >= 80


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    share=st.floats(0, 1),
    seed=st.just(0),
)
def test_stratified_draws_the_number_asked_for_within_one_of_each_share(counts, share, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    wanted = round(share * len(labels))
    chosen = stratified(labels, wanted, seed)
    assert len(set(chosen.tolist())) == len(chosen) == wanted
    drawn = np.bincount(labels[chosen], minlength=len(counts))
    assert (np.abs(drawn - np.array(counts) * wanted / len(labels)) < 1 + 1e-6).all()


@pytest.mark.parametrize("validation", ["none", "held-out"])
def test_left_out_classes_are_verified_on_and_not_trained_on(validation):
    whole = sets(classes=5, train_each=400, test_each=400)
    data = choose_images(whole, validation=validation, left_out=(1, 3))
    assert data.class_names == ("a", "c", "e")
    labels = np.concatenate([whole.train_labels, whole.test_labels])
    new = {0: 0, 2: 1, 4: 2}
    for image, label in zip(numbers(data.train_images), data.train_labels, strict=True):
        assert new[labels[image]] == label
    (pairs,) = data.verification
    of_pairs = numbers(pairs.images)
    assert set(labels[of_pairs]) == {1, 3}
    # The test set is not used when tuning.
    from_test = np.array(of_pairs) >= len(whole.train_labels)
    assert from_test.all() if validation == "none" else not from_test.any()
    first, second = (labels[np.array(of_pairs)[i]] for i in (pairs.first, pairs.second))
    assert np.array_equal(first == second, pairs.same)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"train_count": 3}, ["train_count = 3", "4 classes"]),
        ({"test_count": 25}, ["test_count = 25", "up to 24"]),
        ({"left_out": (1,)}, ["left_out = [1]", "2 to 2"]),
        ({"left_out": (0, 9)}, ["left_out = [0, 9]", "0 to 3"]),
        ({"left_out": (1, 1)}, ["left_out = [1, 1]"]),
    ],
)
def test_impossible_choices_are_refused(parameters, words):
    with pytest.raises(UserError) as refusal:
        choose_images(sets(), **parameters)
    for word in words:
        assert word in str(refusal.value)


def test_a_split_that_would_empty_a_class_is_refused():
    with pytest.raises(UserError, match="validation = 'held-out' is not allowed"):
        choose_images(sets(classes=4, train_each=1), validation="held-out")


def test_of_few_images_as_many_pairs_are_verified_as_there_are():
    """Five images a class make two folds, in which a class has 3 pairs or 1."""
    whole = sets(classes=5, train_each=5, test_each=5)
    (pairs,) = choose_images(whole, left_out=(0, 1, 2)).verification
    assert torch.bincount(pairs.fold).tolist() == [6, 6]
    for fold in (0, 1):
        same = pairs.same[pairs.fold == fold]
        assert same.sum() == (~same).sum() == 3
    with pytest.raises(UserError, match="at most 3 images each; allowed: one or more of 4"):
        choose_images(sets(classes=5, test_each=3), left_out=(0, 1, 2))


def test_all_images_of_classes_left_out_are_there_to_be_retrieved():
    whole = sets(classes=4, train_each=1, test_each=1200)
    (pairs,) = choose_images(whole, left_out=(1, 3)).verification
    assert len(pairs.images) == 2400
    paired = torch.cat([pairs.first, pairs.second])
    # The first thousand of each class, as ever.
    for value in (1, 3):
        own = torch.nonzero(pairs.people == value).flatten()
        assert not torch.isin(own[1000:], paired).any()


def test_only_some_classes_are_there():
    labels = np.repeat(np.arange(5), 4)
    images = np.arange(20, dtype=np.uint8).reshape(20, 1, 1, 1)
    sets = ImageSets(images, labels, images + 100, labels, tuple("abcde"))
    data = choose_images(sets, classes=(4, 1))
    assert data.class_names == ("b", "e")
    assert data.train_images.flatten().tolist() == [4, 5, 6, 7, 16, 17, 18, 19]
    assert data.test_labels.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    for wrong in ((1,), (1, 1), (0, 5)):
        with pytest.raises(UserError, match=r"classes = .* is not allowed; allowed: none, or two"):
            choose_images(sets, classes=wrong)
