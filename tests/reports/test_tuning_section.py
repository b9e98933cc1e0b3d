"""The report of a search, on made errors."""

import math

import pytest
from marginbench.reports.tuning import tuning

from marginbench.experiments.resolution import Resolver
from marginbench.experiments.search import Search
from marginbench.experiments.search_plan import plan_searches
from marginbench.runs.search_results import SearchResult
from tests.conftest import tiny_cell
from tests.reports.frames import frame, row


@pytest.fixture(scope="module")
def searches():
    cells = [tiny_cell(head, seed=seed) for head in ("softmax", "arcface") for seed in (0, 1, 2)]
    return plan_searches(cells, Search(), Resolver(), trials=4, repeats=None)


def result_of(search, errors, untuned=()):
    return SearchResult(search, tuple((error,) for error in errors), untuned)


def frame_of(*found, tested=(0.1, 0.2, 0.3)):
    return frame(
        [
            row(one.search.head, seed=seed, error=tested[seed], search=one)
            for one in found
            for seed in one.search.final_seeds
        ]
    )


def test_gains_stand_beside_the_suites_own_values(searches):
    softmax = result_of(searches[0], [0.2, 0.1, 0.3, 0.4], ((0, 0.15), (1, 0.2), (2, 0.4)))
    arcface = result_of(searches[1], [0.2, math.inf, 0.3, math.inf])
    content = tuning(frame_of(softmax, arcface))
    gains = content.tables[0].frame.set_index("head")
    assert gains.loc["softmax", "validation, own %"] == "20.00"
    assert gains.loc["softmax", "validation, tuned %"] == "10.00"
    assert gains.loc["softmax", "test, own %"] == "25.00"
    assert gains.loc["softmax", "test, tuned %"] == "20.00"
    assert gains.loc["softmax", "difference"].startswith("-5.00 [")
    assert gains.loc["softmax", "trials"] == "4"
    assert gains.loc["arcface", "trials"] == "4, 2 diverged"
    assert gains.loc["arcface", "test, own %"] == "–"
    assert gains.loc["arcface", "difference"] == "–"
    assert len(content.figures) == 2
    assert "4 trials in each setting" in content.text[0]
    assert "as long as the final runs" in content.text[0]


def test_the_choice_is_placed_in_its_box_and_an_edge_is_told(searches):
    search = searches[1]
    edge = search.trials[2].model_copy(
        update={"values": search.trials[2].values | {"head.s": search.parameters["head.s"].high}}
    )
    search = search.model_copy(update={"trials": (*search.trials[:2], edge, search.trials[3])})
    content = tuning(frame_of(result_of(search, [0.2, 0.3, 0.1, 0.4])))
    choices = content.tables[1].frame.set_index("parameter")
    assert choices.loc["s", "position"] == "100 %"
    assert choices.loc["s", "note"] == "at the edge"
    assert choices.loc["s", "own"] == "64"
    assert choices.loc["m", "chosen"] == f"{search.trials[2].values['head.m']:.4g}"
    assert "arcface s" in content.text[0]
    kept = tuning(frame_of(result_of(search, [0.0, 0.3, 0.1, 0.4])))
    assert set(kept.tables[1].frame["note"]) == {""}


def test_an_incomplete_search_and_one_that_diverged_whole_are_shown(searches):
    waiting = result_of(searches[0], [0.2, None, 0.3, None])
    lost = result_of(searches[1], [math.inf] * 4)
    content = tuning(frame_of(waiting, lost))
    gains = content.tables[0].frame.set_index("head")
    assert gains.loc["softmax", "trials"] == "2 of 4"
    assert gains.loc["softmax", "validation, tuned %"] == "–"
    assert gains.loc["arcface", "validation, tuned %"] == "diverged"
    assert set(content.tables[1].frame.query("head == 'softmax'")["chosen"]) == {"–"}
    begun = tuning(frame_of(result_of(searches[0], [0.2, None, 0.3, None]))).figures
    assert [figure.name for figure in begun] == ["tuning-parameters-mnist-table-2"]
    assert tuning(frame_of(result_of(searches[0], [None] * 4))).figures == []


def test_errors_of_zero_and_values_outside_their_box_are_drawn(searches):
    base = searches[1].base
    bare = base.model_copy(
        update={"optimiser": base.optimiser.model_copy(update={"weight_decay": 0.0})}
    )
    search = searches[1].model_copy(
        update={
            "base": bare,
            "trials": (
                searches[1]
                .trials[0]
                .model_copy(
                    update={
                        "values": searches[1].trials[0].values | {"optimiser.weight_decay": 0.0}
                    }
                ),
                *searches[1].trials[1:],
            ),
        }
    )
    for figure in tuning(frame_of(result_of(search, [0.1, 0.0, 0.3, math.inf]))).figures:
        figure.figure.draw_without_rendering()


def test_a_suite_that_was_not_searched_has_no_such_section():
    content = tuning(frame([row(), row(seed=1)]))
    assert (content.text, content.tables, content.figures) == ([], [], [])


def test_a_head_without_a_space_and_shorter_trials_are_told(searches):
    search = searches[0].model_copy(
        update={
            "declares": False,
            "schedule": searches[0].schedule.model_copy(update={"iterations": 12}),
        }
    )
    (text,) = tuning(frame_of(result_of(search, [0.2, 0.1, 0.3, 0.4]))).text
    assert "12 of their 24 iterations" in text
    assert "no search space of their own is declared: softmax" in text


def test_finalists_are_told_and_the_budget_is_of_the_first_seed(searches):
    """The formula of the budget wants errors of as many seeds each."""
    search = searches[0].model_copy(update={"finalists": 2, "trial_seeds": (0, 1, 2)})
    errors = ((0.3, None, None), (0.1, 0.4, 0.4), (0.2, 0.2, 0.2), (0.5, None, None))
    content = tuning(frame_of(SearchResult(search, errors)))
    assert "a head's best 2 trials had 2 further seeds" in content.text[0]
    assert "lowest mean over 3 seeds" in content.text[0]
    gains = content.tables[0].frame.set_index("head")
    assert gains.loc["softmax", "validation, own %"] == "30.00"
    assert gains.loc["softmax", "validation, tuned %"] == "20.00"
    budget, parameters = content.figures
    assert "Errors are of a trial's first seed." in budget.caption
    first = tuning(frame_of(result_of(searches[0], [0.3, 0.1, 0.2, 0.5])))
    assert budget.data["mean"].tolist() == first.figures[0].data["mean"].tolist()
    assert "first seed" not in first.figures[0].caption
    drawn = parameters.data.drop_duplicates("trial")
    assert drawn["validation error"].tolist() == pytest.approx([0.3, 0.3, 0.2, 0.5])
    assert drawn["chosen"].tolist() == [False, False, True, False]
    assert drawn["seeds"].tolist() == [1, 3, 3, 1]
    marks = [line.get_alpha() for line in parameters.figure.axes[0].get_lines()]
    assert marks[0] == marks[3] < marks[1] == marks[2] == 1
    assert "Pale: the error is of one run" in parameters.caption
