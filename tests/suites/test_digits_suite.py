"""The quickstart: seeds for its verdicts, and an open set whose runs are those of digits-open."""

from collections import Counter

from marginbench.experiments.resolution import Resolver
from marginbench.experiments.suites import find_suite


def by_setting(name):
    resolver = Resolver()
    found = {}
    for cell in map(resolver, find_suite(name).cells()):
        found.setdefault(cell.setting, []).append(cell)
    return found


def test_every_setting_has_the_seeds_that_it_needs():
    seeds = find_suite("digits").seeds
    assert seeds >= 8
    settings = by_setting("digits")
    for setting, number in (("ten digits", seeds), ("open set", seeds), ("2-D features", 1)):
        heads = Counter((cell.head.name, str(cell.head.parameters)) for cell in settings[setting])
        assert set(heads.values()) == {number}


def test_the_open_set_is_a_part_of_digits_open():
    few, all_heads = by_setting("digits")["open set"], by_setting("digits-open")["open set"]
    kinds = {cell.head.name for cell in few}
    assert kinds == {"softmax", "contrastive", "l-softmax", "am-softmax", "arcface"}
    own = {cell.key for cell in few if cell.seed in {other.seed for other in all_heads}}
    assert own < {cell.key for cell in all_heads}
