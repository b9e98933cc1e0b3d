"""A search is planned ahead: the same trials for every head, first the suite's own values."""

import numpy as np
import pytest
from PIL import Image

from marginbench.data import load_data
from marginbench.errors import UserError
from marginbench.experiments.cell_fields import Optimiser, Schedule
from marginbench.experiments.grids import component, grid
from marginbench.experiments.resolution import Resolver
from marginbench.experiments.search import Search, sobol_points
from marginbench.experiments.search_plan import plan_searches
from marginbench.plugins.loading import load_plugin_file
from marginbench.plugins.search_ranges import Choice, LogUniform, Uniform
from tests.conftest import BARS_SOURCE

HEADS = [
    "softmax",
    component("arcface", m=0.2, s=10.0),
    component("l-softmax", m=2, lambda_base=1000.0, lambda_gamma=0.01),
    component("l-softmax", m=3, lambda_base=1000.0, lambda_gamma=0.01),
]
SCHEDULE = Schedule(iterations=100, batch_size=16, milestones=(60, 80), evaluations=5, warm_up=10)


def cells(heads=HEADS, *, data="digits", seeds=2, **fields):
    resolve = Resolver()
    declared = grid(
        setting="digits",
        data=data,
        backbone="small",
        head=heads,
        optimiser=Optimiser(learning_rate=0.02),
        schedule=SCHEDULE,
        seed=list(range(seeds)),
        **fields,
    )
    return [resolve(cell) for cell in declared]


def plan(own=None, search=None, *, trials=16, repeats=None):
    return plan_searches(
        own or cells(), search or Search(), Resolver(), trials=trials, repeats=repeats
    )


def keys(search):
    numbers = range(len(search.trials))
    return [[cell.key for cell in search.trial_cells(number)] for number in numbers]


def test_every_head_has_the_same_number_of_trials_and_begins_with_its_own_values():
    searches = plan()
    assert [search.head for search in searches] == ["softmax", "arcface", "l-softmax"]
    assert {len(search.trials) for search in searches} == {16}
    own = {cell.key for cell in cells()}
    for search in searches:
        assert {cell.key for cell in search.final_cells(0)} <= own
        assert search.final_cells(0) == search.default_cells()
        assert len({cell.key for number in range(16) for cell in search.final_cells(number)}) == 32
        assert not {key for trial in keys(search) for key in trial} & own
    arcface = searches[1].trials
    assert arcface[0].values == {
        "optimiser.learning_rate": 0.02,
        "optimiser.head_rate": 1.0,
        "optimiser.weight_decay": 5e-4,
        "head.m": 0.2,
        "head.s": 10.0,
    }
    assert arcface[3].head.parameters["m"] == arcface[3].values["head.m"]
    assert arcface[3].optimiser.head_rate == arcface[3].values["optimiser.head_rate"]
    # Of several cells of one head the first is its own; m is searched.
    assert searches[2].base.head.parameters["m"] == 2
    assert {trial.values["head.m"] for trial in searches[2].trials} == {2, 3, 4}


def test_trials_are_trained_and_tested_on_held_out_images_alone():
    for search in plan():
        for cell in search.trial_cells(5):
            assert cell.data.parameters["validation"] == "held-out"
            assert cell.setting == "digits: search"
        assert all(c.data.parameters["validation"] == "none" for c in search.final_cells(5))
    opened = plan(cells(["softmax"], data=component("digits", left_out=[6, 7, 8, 9])))
    assert (opened[0].by, opened[0].data[0].parameters["validation"]) == ("verification", "classes")
    by_error = plan(
        cells(["softmax"], data=component("digits", left_out=[6, 7, 8, 9])), Search(by="error")
    )
    assert by_error[0].data[0].parameters["validation"] == "held-out"


def test_more_trials_keep_those_that_there_are_and_the_points_fill_the_box():
    few, many = plan(trials=16), plan(trials=32)
    for search, longer in zip(few, many, strict=True):
        assert keys(longer)[:16] == keys(search)
        assert len({key for trial in keys(longer) for key in trial}) == 32
    positions = sobol_points(4, 16, "arcface", 0)
    # A scrambled Sobol sequence has one point in each sixteenth of every axis.
    for axis in range(4):
        assert sorted(int(16 * position[axis]) for position in positions) == list(range(16))
    assert positions != sobol_points(4, 16, "softmax", 0)
    assert positions != sobol_points(4, 16, "arcface", 1)


def test_a_suite_narrows_widens_and_leaves_out():
    search = Search(
        shared={"weight_decay": None, "clip_norm": Choice((0.0, 1.0))},
        heads={"arcface": {"m": Uniform(0.1, 0.2), "s": None}},
    )
    arcface = plan(search=search)[1]
    assert list(arcface.ranges) == [
        "optimiser.learning_rate",
        "optimiser.head_rate",
        "optimiser.clip_norm",
        "head.m",
    ]
    drawn = [trial.values["head.m"] for trial in arcface.trials]
    assert 0.1 <= min(drawn) <= max(drawn) <= 0.2
    assert {trial.head.parameters["s"] for trial in arcface.trials} == {10.0}


def test_a_trial_of_half_the_length_sees_the_same_course():
    search = plan(search=Search(length=0.5, seeds=2))[2]
    assert search.schedule.iterations == 50
    assert (search.schedule.milestones, search.schedule.warm_up) == ((30, 40), 5)
    short, final = search.trial_cells(4), search.final_cells(4)
    assert [cell.seed for cell in short] == [0, 1]
    assert [cell.data.parameters["validation_draw"] for cell in short] == [0, 1]
    gamma = final[0].head.parameters["lambda_gamma"]
    assert short[0].head.parameters["lambda_gamma"] == pytest.approx(2 * gamma)
    assert final[0].schedule == SCHEDULE


def test_a_parameter_without_effect_is_not_searched():
    heads = [component("l-softmax", m=2, lambda_base=0.0)]
    assert "head.lambda_min" not in plan(cells(heads))[0].ranges
    assert "head.lambda_min" in plan()[2].ranges


def test_each_repeat_has_points_seeds_and_held_out_images_of_its_own():
    first, second = plan(cells(["softmax"]), repeats=2)
    assert (first.final_seeds, second.final_seeds) == ((0,), (1,))
    assert first.data[0].parameters["validation_draw"] == 0
    assert second.data[0].parameters["validation_draw"] == 1
    assert first.trial_seeds != second.trial_seeds
    assert first.trials[1].values != second.trials[1].values
    with pytest.raises(UserError, match=r"repeats = 3 is not allowed with 2 seeds .* allowed: 2"):
        plan(cells(["softmax"]), repeats=3)


def test_a_split_per_seed_is_searched_once_a_seed_on_that_seeds_split():
    drawn = cells(["softmax"], data=component("digits", split="per-seed"))
    searches = plan(drawn)
    assert [(s.trial_seeds, s.final_seeds) for s in searches] == [((0,), (0,)), ((1,), (1,))]
    with pytest.raises(UserError, match="what is validated would be tested; allowed: 2"):
        plan(drawn, repeats=1)
    with pytest.raises(UserError, match="seeds = 2 is not allowed with a split per seed"):
        plan(drawn, Search(seeds=2))


def test_with_images_for_the_search_alone_one_search_does_for_all_seeds():
    drawn = component("digits", split="per-seed", search_share=0.4)
    (search,) = plan(cells(["softmax"], data=drawn), Search(seeds=2))
    assert (search.trial_seeds, search.final_seeds) == ((0, 1), (0, 1))
    assert [data.parameters["validation_draw"] for data in search.data] == [0, 1]
    assert all(data.parameters["search_share"] == 0.4 for data in search.data)


def test_classes_that_a_folder_leaves_out_by_a_share_are_never_validated(tmp_path, monkeypatch):
    monkeypatch.setenv("MARGINBENCH_DATA", str(tmp_path))
    monkeypatch.setenv("MARGINBENCH_CACHE", str(tmp_path / "cache"))
    random = np.random.default_rng(0)
    for name in "abcdefgh":
        (tmp_path / "birds" / name).mkdir(parents=True)
        for number in range(4):
            pixels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "birds" / name / f"{number}.png")
    birds = component("folder", name="birds", left_out_share=0.5)
    (search,) = plan(cells(["softmax"], data=birds))
    assert (search.by, search.data[0].parameters["validation"]) == ("verification", "classes")
    # Two of the four classes that are trained on are held out; the other four are the test's.
    data = load_data("folder", search.data[0].parameters)
    assert len(data.class_names) == 2
    assert set(data.class_names) < set("abcd")
    assert len(data.verification[0].images) == 2 * 4


STRANGER = """
from marginbench import register_head
from marginbench.losses.softmax import Softmax


@register_head("without-space")
class WithoutSpace(Softmax):
    search_space = classmethod(lambda cls, num_classes: None)
"""


def test_a_head_without_a_space_is_searched_over_what_all_share(tmp_path, scratch_registry):
    file = tmp_path / "stranger.py"
    file.write_text(STRANGER)
    load_plugin_file(file)
    (search,) = plan(cells(["without-space"]))
    assert not search.declares
    assert all(name.startswith("optimiser.") for name in search.ranges)
    assert plan()[0].declares


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Search(trials=0), "search: trials = 0 is not allowed"),
        (
            lambda: Search(seeds=2, finalists=0),
            "search: finalists = 0 is not allowed; allowed: None, or an integer ≥ 1",
        ),
        (lambda: Search(finalists=4), "search: finalists = 4 is not allowed with seeds = 1"),
        (lambda: Search(length=1.5), "search: length = 1.5 is not allowed"),
        (lambda: Search(by="luck"), "search: by = 'luck' is not allowed"),
        (lambda: Search(shared={"kind": Choice(("sgd", "adamw"))}), "shared = 'kind'"),
        (lambda: Search(heads={"arcface": {"m": (0, 1)}}), r"arcface: m = \(0, 1\)"),
        (lambda: plan(trials=0), "trials = 0 is not allowed; allowed: 1 or more"),
        (lambda: plan(search=Search(settings=("faces",))), "settings = 'faces' .* 'digits'"),
        (
            lambda: plan(search=Search(heads={"arcface": {"q": Uniform(0, 1)}})),
            "head 'arcface': its search space has 'q'; its parameters: m, s",
        ),
        (
            lambda: plan(search=Search(heads={"arcface": {"m": Uniform(0, 4)}})),
            r"search: Uniform\(0, 4\): head 'arcface': m = 4 is not allowed",
        ),
        (
            lambda: plan(search=Search(shared={"momentum": LogUniform(0.5, 1.5)})),
            r"search: LogUniform\(0.5, 1.5\): .*momentum = 1.5",
        ),
        (
            lambda: plan(search=Search(by="verification")),
            "by = 'verification' is not allowed with data source 'digits'",
        ),
    ],
)
def test_a_search_that_cannot_be_is_refused_in_one_line(make, words):
    with pytest.raises(UserError, match=words):
        make()


def test_data_that_hold_nothing_out_are_refused(tmp_path):
    file = tmp_path / "bars_without_validation.py"
    file.write_text(BARS_SOURCE.replace('"bars"', '"bars-without-validation"'))
    load_plugin_file(file)
    with pytest.raises(UserError, match="cannot be searched on: it has no parameter 'validation'"):
        plan(cells(["softmax"], data="bars-without-validation"))
    with pytest.raises(UserError, match="validation = 'held-out' is not allowed in a suite"):
        plan(cells(["softmax"], data=component("digits", validation="held-out")))
