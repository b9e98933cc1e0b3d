"""No image that hyper-parameters are chosen on is ever a test image, whatever the source."""

import numpy as np
import pytest
import torch

from marginbench.data import data_source_function, data_source_names, load_data
from marginbench.data.choices.image_sets import ImageSets
from marginbench.data.choices.splits import choose_images
from marginbench.data.files.content import _key_once
from marginbench.errors import UserError
from tests.data.lfw_files import write_image, write_lfw
from tests.data.record_files import png
from tests.data.test_faces import write_bin
from tests.data.test_omniglot import write_alphabets


@pytest.fixture(autouse=True)
def _fresh_process():
    _key_once.cache_clear()


@pytest.fixture
def files(root, write_mnist, write_cifar100, write_folder):
    """Small files of every source that has any."""
    write_mnist()
    write_mnist("FashionMNIST")
    write_cifar100()
    random = np.random.default_rng(3)
    arrays = {}
    for split, each in (("train", 20), ("test", 20)):
        shape = (10 * each, 32, 32, 3)
        arrays[f"x_{split}"] = random.integers(0, 256, shape, dtype=np.uint8)
        arrays[f"y_{split}"] = np.repeat(np.arange(10), each)
    np.savez(root / "cifar10.npz", **arrays)
    np.savez(root / "own.npz", **arrays)
    write_folder(each=20, classes=("ant", "bee", "cat", "dog", "eel", "fox"))
    write_lfw(root / "lfw")
    for person in range(20):
        for number in range(3):
            write_image(root / "casia" / f"P{person}" / f"{number}.jpg", f"P{person}", number)
    write_bin(root / "lfw.bin")
    omniglot = root / "omniglot"
    write_alphabets(omniglot / "images_background", "Greek", "Latin", "Korean", "Runes")
    write_alphabets(omniglot / "images_evaluation", "Atlantean", "Tengwar", start=4)


FOLDER = {"name": "mine"}
CLOSED = [
    ("digits", {}),
    ("mnist", {}),
    ("fashion-mnist", {}),
    ("cifar10", {}),
    ("cifar100", {}),
    ("folder", FOLDER),
    ("npz", {"name": "own.npz"}),
]
OPEN = [
    ("digits", {"left_out": [6, 7, 8, 9]}),
    ("cifar10", {"left_out": [0, 1]}),
    ("folder", FOLDER | {"left_out": [0, 1]}),
    ("folder", FOLDER | {"name": "mine/train", "left_out_share": 0.34}),
    ("omniglot", {"size": 105}),
]
FACES = [
    ("lfw", {"protocol": "unrestricted", "tested_set": 4, "crop": 32, "size": 16}),
    ("lfw", {"protocol": "view1", "threshold_share": 0.3, "crop": 32, "size": 16}),
    ("faces", {"name": "casia", "verify": ["lfw.bin"], "size": 16}),
]
VALIDATED = [
    *((name, given, "held-out") for name, given in CLOSED + FACES),
    *((name, given, "classes") for name, given in OPEN),
    ("digits", {"left_out": [6, 7, 8, 9]}, "held-out"),
]


def as_bytes(images):
    return {image.numpy().tobytes() for image in images}


def images_tested(data):
    """What the result's numbers are taken of: test images, and the pairs of tested folds."""
    found = as_bytes(data.test_images)
    for pairs in data.verification:
        tested = pairs.tested_folds or tuple(set(pairs.fold.tolist()))
        chosen = torch.isin(pairs.fold, torch.tensor(tested))
        rows = torch.cat([pairs.first[chosen], pairs.second[chosen]]).unique()
        found |= as_bytes(pairs.images[rows])
    return found


def test_every_data_source_is_looked_at():
    built_in = {
        name
        for name in data_source_names()
        if data_source_function(name).__module__.startswith("marginbench.data.sources.")
    }
    assert {name for name, _, _ in VALIDATED} == built_in


@pytest.mark.parametrize(("name", "given", "validation"), VALIDATED)
def test_no_validation_image_is_a_test_image_nor_trained_on(files, name, given, validation):
    if name in ("cifar10", "folder") and validation == "classes" and "left_out" in given:
        # Their test sets are too small for the pairs that are tested, so those are made by hand.
        whole = load_data(name, {key: v for key, v in given.items() if key != "left_out"})
        tested = as_bytes(whole.test_images)
        tested |= as_bytes(whole.train_images[torch.isin(whole.train_labels, torch.tensor([0, 1]))])
    else:
        tested = images_tested(load_data(name, given))
    chosen_on = {}
    for draw in (0, 1):
        data = load_data(name, given | {"validation": validation, "validation_draw": draw})
        chosen_on[draw] = images_tested(data)
        assert chosen_on[draw]
        assert not chosen_on[draw] & tested
        assert not chosen_on[draw] & as_bytes(data.train_images)
        assert not as_bytes(data.train_images) & tested
    assert chosen_on[0] != chosen_on[1]


@pytest.mark.parametrize(("name", "given"), CLOSED)
def test_a_split_per_seed_is_drawn_by_the_seed_and_nothing_else(files, name, given):
    fixed = load_data(name, given, seed=1)
    everything = as_bytes(fixed.train_images) | as_bytes(fixed.test_images)
    splits = []
    for seed in (0, 1, 1):
        data = load_data(name, given | {"split": "per-seed"}, seed=seed)
        trained, tested = as_bytes(data.train_images), as_bytes(data.test_images)
        assert not trained & tested
        assert trained | tested == everything
        assert len(data.test_images) == len(fixed.test_images)
        counts = [torch.bincount(d.test_labels, minlength=d.num_classes) for d in (data, fixed)]
        assert (counts[0] - counts[1]).abs().max() <= 1
        held = {"split": "per-seed", "validation": "held-out"}
        validated = load_data(name, given | held, seed=seed)
        chosen_on = as_bytes(validated.test_images)
        assert chosen_on
        assert not chosen_on & tested
        assert chosen_on | as_bytes(validated.train_images) == trained
        splits.append((trained, tested, chosen_on))
    assert splits[1] == splits[2]
    assert splits[0] != splits[1]
    assert as_bytes(load_data(name, given, seed=0).test_images) == as_bytes(fixed.test_images)


@pytest.mark.parametrize(("name", "given"), CLOSED)
def test_images_for_the_search_are_in_no_final_run_of_any_seed(files, name, given):
    everything = load_data(name, given)
    images = as_bytes(everything.train_images) | as_bytes(everything.test_images)
    shared = given | {"split": "per-seed", "search_share": 0.4}
    finals = [load_data(name, shared, seed=seed) for seed in (0, 1)]
    parts = [as_bytes(data.train_images) | as_bytes(data.test_images) for data in finals]
    assert parts[0] == parts[1]
    assert as_bytes(finals[0].test_images) != as_bytes(finals[1].test_images)
    chosen_on = []
    # The split of a trial is drawn by validation_draw; its seed has no part in it.
    for seed, draw in ((0, 0), (1, 0), (0, 1)):
        held = {"validation": "held-out", "validation_draw": draw}
        data = load_data(name, shared | held, seed=seed)
        trained, tested = as_bytes(data.train_images), as_bytes(data.test_images)
        assert tested
        assert not trained & tested
        assert trained | tested == images - parts[0]
        share = len(everything.test_images) / len(images)
        assert len(data.test_images) == round(share * len(images - parts[0]))
        chosen_on.append(tested)
    assert chosen_on[0] == chosen_on[1] != chosen_on[2]


def test_a_share_for_the_search_is_refused_where_it_means_nothing(files):
    with pytest.raises(UserError, match=r"search_share = 0\.3 .* split = 'fixed'.*allowed: 0, or"):
        load_data("mnist", {"search_share": 0.3})
    with pytest.raises(UserError, match="leaves a class without images"):
        load_data("npz", {"name": "own.npz", "split": "per-seed", "search_share": 0.001})
    with pytest.raises(UserError, match="'per-seed' is not allowed where there are no test images"):
        load_data("folder", {"name": "mine/train", "left_out_share": 0.5, "split": "per-seed"})


def test_held_out_images_without_a_test_set_verify_on_no_left_out_class(files):
    given = {"name": "mine/train", "left_out_share": 0.5, "validation": "held-out"}
    assert load_data("folder", given).verification == ()


def test_too_few_classes_or_people_to_hold_out_are_refused(root):
    images = np.random.default_rng(0).integers(0, 256, (60, 1, 4, 4), dtype=np.uint8)
    sets = ImageSets(images, np.arange(60) % 3, images, np.arange(60) % 3, ("a", "b", "c"))
    with pytest.raises(UserError, match="validation = 'classes' is not allowed with 3 classes"):
        choose_images(sets, "classes")
    for person in range(6):
        (root / "few" / str(person)).mkdir(parents=True)
        for number in range(2):
            (root / "few" / str(person) / f"{number}.png").write_bytes(png(10 * person + number))
    write_bin(root / "lfw.bin")
    given = {"name": "few", "verify": ["lfw.bin"], "size": 16, "validation": "held-out"}
    with pytest.raises(UserError, match="validation = 'held-out' is not allowed with 6 people"):
        load_data("faces", given)
