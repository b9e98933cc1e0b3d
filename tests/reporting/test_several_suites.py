"""Heads over several data sets, against scipy and by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from marginbench.reports.data_sets import data_sets
from scipy import stats

from marginbench.reporting.several_suites import (
    mean_ranks,
    not_told_apart,
    pairwise_wilcoxon,
    ranking,
    together,
    wins_draws_losses,
)
from marginbench.reporting.verdicts import verdicts
from tests.reports.frames import frame, row

HEADS = {"softmax": 0.0, "arcface": -0.02, "hinge": 0.03}


def suite_of(number, heads=HEADS, **fields):
    """Three seeds of each head; the data set's own error beside the head's, and a little noise."""
    random = np.random.default_rng(number)
    rows = [
        row(head, seed=s, error=0.2 + 0.01 * number + gain + random.normal(0, 0.001), **fields)
        for head, gain in heads.items()
        for s in range(3)
    ]
    return frame(rows)


@pytest.fixture(scope="module")
def eight():
    """Eight suites whose settings have the same name and key."""
    return together({f"suite{number}": suite_of(number) for number in range(8)})


def test_every_suites_settings_stay_apart(eight):
    errors = ranking(eight).errors
    assert list(errors.index) == [f"suite{number}: MNIST (Table 2)" for number in range(8)]
    own = eight[(eight["suite"] == "suite3") & (eight["head"] == "hinge")]["test_error"]
    assert errors.loc["suite3: MNIST (Table 2)", "hinge"] == pytest.approx(own.astype(float).mean())


def test_mean_ranks_share_ties():
    errors = pd.DataFrame({"a": [0.1, 0.2], "b": [0.1, 0.3], "c": [0.4, 0.1]}, index=["x", "y"])
    ranks = mean_ranks(errors)
    known = np.mean([stats.rankdata(values) for values in errors.to_numpy()], axis=0)
    assert ranks[["a", "b", "c"]].to_numpy() == pytest.approx(known)
    assert list(ranks.index) == ["a", "c", "b"]


def test_pairs_are_scipys_tests_with_holm(eight):
    errors = ranking(eight).errors
    pairs = pairwise_wilcoxon(errors).set_index(["first", "second"])
    for first, second in pairs.index:
        known = stats.wilcoxon(errors[first], errors[second]).pvalue
        assert pairs.loc[(first, second), "p"] == pytest.approx(known)
    # All pairs differ on all eight data sets: p = 2/2⁸ each, thrice by Holm.
    assert pairs["p_corrected"].to_numpy() == pytest.approx(3 * 2 / 2**8)


def test_heads_that_are_equal_everywhere_have_no_p():
    errors = pd.DataFrame({"a": [0.1, 0.2], "b": [0.1, 0.2]})
    assert math.isnan(pairwise_wilcoxon(errors)["p_corrected"][0])


def test_bars_join_neighbours_of_which_no_two_differ():
    ranks = pd.Series({"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0})
    pairs = pd.DataFrame(
        [("a", "c", 0.01), ("a", "d", 0.01), ("a", "b", 0.5), ("b", "c", 0.5), ("c", "d", 0.9)],
        columns=["first", "second", "p_corrected"],
    )
    assert not_told_apart(ranks, pairs) == [["a", "b"], ["b", "c", "d"]]


def test_wins_draws_and_losses_are_the_verdicts():
    two = {"softmax": 0.0, "arcface": 0.0}
    tied = frame([row(head, seed=s, error=0.2) for head in two for s in range(3)])
    matrix = wins_draws_losses(together({"clear": suite_of(1), "tied": tied}))
    assert matrix.at["arcface", "softmax"] == (1, 1, 0)
    assert matrix.at["softmax", "arcface"] == (0, 1, 1)
    assert matrix.at["hinge", "softmax"] == (0, 0, 1)
    assert math.isnan(matrix.at["hinge", "hinge"])


def test_the_section_ranks_what_is_complete_and_names_the_rest():
    fewer = {name: gain for name, gain in HEADS.items() if name != "hinge"}
    content = data_sets(together({"a": suite_of(1), "b": suite_of(2, fewer)}))
    assert content.text == ["Without a result on every data set, and not ranked: hinge."]
    ranks = content.tables[0].frame
    assert list(ranks["head"]) == ["arcface", "softmax"]
    assert list(ranks["mean rank"]) == ["1.00", "2.00"]
    assert "With 2 data sets no p can be below 0.500" in content.figures[0].caption


STATES = st.sampled_from(["done", "done", "done", "diverged", "damaged", "not started"])


@given(st.data())
@settings(max_examples=10)
def test_the_order_of_two_ranked_heads_is_that_of_their_means_over_the_shared_seeds(data):
    frames = {}
    for name, number in (("a", 1), ("b", 2)):
        own = suite_of(number, num_classes=10)
        states = data.draw(st.lists(STATES, min_size=len(own), max_size=len(own)), label=name)
        own["test_error"] = own["test_error"].where([state == "done" for state in states])
        frames[name] = own.assign(state=states)
    found = ranking(together(frames))
    names = dict(zip(frames, found.errors.index, strict=False))
    assert set(found.left_out) | set(found.errors.columns) == set(HEADS)
    for suite, setting in names.items():
        rows = frames[suite]
        rows = rows[rows["state"].isin(["done", "diverged"]) & rows["head"].isin(found.errors)]
        # By hand: a diverged run of ten classes is wrong nine times in ten.
        value = rows["test_error"].astype(float).fillna(0.9)
        table = rows.assign(value=value).pivot(index="seed", columns="head", values="value")
        shared = table.dropna()
        assert len(shared)
        assert found.errors.loc[setting].to_dict() == pytest.approx(shared.mean().to_dict())
        told = found.seeds.get(setting, "3 of 3 seeds")
        assert told == f"{len(shared)} of 3 seeds"


def test_a_damaged_cell_does_not_change_who_is_first():
    """The worse of two seeds is gone for one head: its mean over what is left is lower."""
    errors = {"softmax": (0.10, 0.30), "arcface": (0.12, 0.32)}
    rows = [row(h, seed=s, error=e) for h, own in errors.items() for s, e in enumerate(own)]
    rows[-1] |= {"state": "damaged", "test_error": None}
    content = data_sets(together({"a": frame(rows), "b": frame(rows)}))
    ranks = content.tables[0].frame
    assert ranks["head"].tolist() == ["softmax", "arcface"]
    assert [name for name in ranks if name.endswith("(1 of 2 seeds)")] == list(ranks.columns[2:])
    assert ranks.iloc[0, 2] == "10.00"


def test_diverged_and_unfitted_heads_are_marked_in_the_ranks_and_have_lost():
    rows = [row(seed=s, error=0.2, num_classes=10) for s in range(3)]
    rows += [row("arcface", seed=s, error=0.1, num_classes=10) for s in range(2)]
    rows += [row("arcface", seed=2, error=None, state="diverged")]
    rows += [row("hinge", seed=s, error=0.3, train_error=0.836) for s in range(3)]
    both = together({"a": frame(rows), "b": frame(rows)})
    content = data_sets(both)
    ranks = content.tables[0].frame
    assert ranks["head"].tolist() == ["softmax", "hinge", "arcface"]
    assert ranks.iloc[:, 2].tolist() == [
        "20.00",
        "30.00 (has not fitted)",
        "36.67 (1 diverged)",
    ]
    matrix = wins_draws_losses(both)
    assert matrix.at["arcface", "softmax"] == (0, 0, 2)
    assert matrix.at["softmax", "arcface"] == (2, 0, 0)


def test_one_suite_has_no_such_section():
    content = data_sets(frame([row(suite="one"), row("arcface", suite="one")]))
    assert (content.text, content.tables, content.figures) == ([], [], [])


def test_a_suite_of_which_nothing_has_finished_ranks_nothing():
    nothing = frame([row(head, error=None, state="not started") for head in HEADS])
    content = data_sets(together({"a": suite_of(1), "b": nothing}))
    assert content.text[-1] == "Ranks need two heads with results on two data sets."
    assert not content.figures


def test_each_suite_keeps_what_it_counts_as_equal():
    frames = {"a": suite_of(1, equal_within=0.5), "b": suite_of(1)}
    found = verdicts(together(frames))
    assert found.groupby("setting", sort=False)["equal_within"].first().isna().tolist() == [
        False,
        True,
    ]
    assert ranking(together(frames)).errors.shape == (2, 3)
