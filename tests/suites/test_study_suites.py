"""The study's suites: the same heads, trials and seeds on every data set."""

import pytest
from marginbench.suites.study import CIFAR_CLASSES

from benchmarks.study import SUITES
from marginbench.experiments.suites import find_suite
from marginbench.heads import head_class

HEADS = {
    *("softmax", "hinge", "contrastive", "triplet", "l-softmax", "a-softmax", "normface"),
    *("am-softmax", "arcface", "sphereface2", "circle", "curricularface", "adaface", "magface"),
}
CLOSED = ("study-digits", "study-mnist", "study-fashion", "study-cifar")
SUPERCLASSES = """\
beaver dolphin otter seal whale
aquarium_fish flatfish ray shark trout
orchid poppy rose sunflower tulip
bottle bowl can cup plate
apple mushroom orange pear sweet_pepper
clock keyboard lamp telephone television
bed chair couch table wardrobe
bee beetle butterfly caterpillar cockroach
bear leopard lion tiger wolf
bridge castle house road skyscraper
cloud forest mountain plain sea
camel cattle chimpanzee elephant kangaroo
fox porcupine possum raccoon skunk
crab lobster snail spider worm
baby boy girl man woman
crocodile dinosaur lizard snake turtle
hamster mouse rabbit shrew squirrel
maple_tree oak_tree palm_tree pine_tree willow_tree
bicycle bus motorcycle pickup_truck train
lawn_mower rocket streetcar tank tractor"""
"""Of CIFAR-100, a line each (Krizhevsky, 2009)."""


@pytest.mark.parametrize("name", SUITES)
def test_fourteen_heads_have_sixteen_trials_and_ten_seeds(name):
    suite = find_suite(name)
    assert suite.search.trials == 16
    assert suite.equal_within == 0.005
    settings = {}
    for cell in suite.cells():
        settings.setdefault(cell.setting, []).append(cell)
    for cells in settings.values():
        assert sorted((cell.head.name, cell.seed) for cell in cells) == sorted(
            (head, seed) for head in HEADS for seed in range(10)
        )
        assert len({cell.comparison for cell in cells}) == 1


def test_every_head_declares_what_is_searched_of_its_own():
    for name in HEADS - {"softmax"}:
        assert head_class(name).search_space(10)


@pytest.mark.parametrize("name", CLOSED)
def test_a_closed_set_draws_its_split_by_the_seed_and_has_images_for_the_search(name):
    for cell in find_suite(name).cells():
        assert cell.data.parameters["split"] == "per-seed"
        assert 0 < cell.data.parameters["search_share"] < 1


@pytest.mark.parametrize("name", ["study-digits", "study-omniglot", "study-lfw"])
def test_open_sets_show_verification(name):
    assert "verification" in find_suite(name).sections


def test_the_classes_of_cifar_are_the_first_of_each_superclass():
    groups = [line.split() for line in SUPERCLASSES.splitlines()]
    names = sorted(name for group in groups for name in group)
    assert len(names) == len(set(names)) == 100
    assert list(CIFAR_CLASSES) == sorted(names.index(min(group)) for group in groups)
