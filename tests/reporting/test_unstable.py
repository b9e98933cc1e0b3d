"""A run that diverged has lost: whatever the others say, its head is not better for it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marginbench.reporting.compared_tables import compared_tables
from marginbench.reporting.forest import COLOURS, MARKERS, forest_figure
from marginbench.reporting.until_decided import describe
from marginbench.reporting.verdicts import VERDICTS, verdicts
from marginbench.runs.seed_plan import SeedPlan
from tests.reports.frames import frame, row, verified

FINISHED, DIVERGED, MISSING = "done", "diverged", "not started"
HEADS = {"softmax": 0.30, "arcface": 0.25, "hinge": 0.30, "triplet": 0.36}
"""Better, equal and worse than softmax where nothing diverged."""
STATES = st.sampled_from([FINISHED, FINISHED, FINISHED, DIVERGED, MISSING])


def made(states, **fields):
    """A frame of heads whose runs have the given states, seed by seed, with a little noise."""
    noise = np.random.default_rng(0).normal(0, 0.001, (len(states), 20))
    return frame(
        [
            row(
                head,
                seed=seed,
                error=HEADS[head] + noise[place, seed] if state == FINISHED else None,
                state=state,
                **{"equal_within": 0.01} | fields,
            )
            for place, (head, own) in enumerate(states.items())
            for seed, state in enumerate(own)
        ]
    )


def seeds_of(states, state):
    return {seed for seed, own in enumerate(states) if own == state}


@given(st.data(), st.integers(3, 10), st.booleans())
@settings(max_examples=40)
def test_a_head_that_diverged_in_more_seeds_is_neither_better_nor_equal(data, seeds, planned):
    states = {
        head: data.draw(st.lists(STATES, min_size=seeds, max_size=seeds), label=head)
        for head in HEADS
    }
    plan = SeedPlan(seeds, first_look=5) if planned and seeds >= 5 else None
    fields = {"max_seeds": seeds, "first_look": 5, "spending": plan.spending} if plan else {}
    found = verdicts(made(states, **fields)).set_index("label")
    baseline = states.pop("softmax")
    for head, own in states.items():
        row = found.loc[head]
        lost, other = seeds_of(own, DIVERGED), seeds_of(baseline, DIVERGED)
        done, other_done = seeds_of(own, FINISHED), seeds_of(baseline, FINISHED)
        if len(lost) > len(other):
            assert row["verdict"] not in ("better", "equal")
        if len(other & (done | lost)) > len(lost):
            assert row["verdict"] not in ("worse", "equal")
        assert row["seeds"] == len(done & other_done)
        assert row["diverged"] == len(lost)
        # By hand: all that finished are worse for triplet, better for arcface, by far.
        pairs = done & other_done
        outcomes = len(pairs) + len(lost & other_done) + len(done & other)
        if head != "hinge" and outcomes:
            won = len(done & other) + (len(pairs) if head == "arcface" else 0)
            assert row["probability_better"] == pytest.approx(won / outcomes)
        if not outcomes:
            assert np.isnan(row["probability_better"])


def test_half_of_the_runs_diverged():
    """As MNIST's magface with five of ten seeds diverged: not better by the five others."""
    states = {"softmax": [FINISHED] * 10, "arcface": [DIVERGED] * 5 + [FINISHED] * 5}
    (found,) = verdicts(made(states)).itertuples()
    assert (found.verdict, found.diverged, found.seeds) == ("unstable", 5, 5)
    assert found.difference == pytest.approx(-0.05, abs=0.002)
    assert found.probability_better == 0.5
    assert found.p_corrected < 0.05
    # Seen from the other side softmax is not worse.
    (other,) = verdicts(made(states), against="arcface").itertuples()
    assert (other.verdict, other.baseline_diverged) == ("unstable", 5)
    # Where both diverged in the same seeds, the others decide.
    both = {head: [DIVERGED] * 5 + [FINISHED] * 5 for head in states}
    (found,) = verdicts(made(both)).itertuples()
    assert (found.verdict, found.probability_better) == ("better", 1)


def test_the_correction_counts_an_unstable_head():
    """Its p-value is tested like the others', so that theirs do not change with what diverged."""
    whole = {head: [FINISHED] * 10 for head in HEADS}
    broken = whole | {"arcface": [DIVERGED, *[FINISHED] * 9]}
    before, after = (verdicts(made(states)).set_index("label") for states in (whole, broken))
    assert after.loc["arcface", "verdict"] == "unstable"
    assert after["compared_heads"].tolist() == [3, 3, 3]
    columns = ["verdict", "p", "p_corrected", "corrected_low", "seeds"]
    assert after.loc[["hinge", "triplet"], columns].equals(
        before.loc[["hinge", "triplet"], columns]
    )


def test_an_unstable_head_stops_at_its_look():
    states = {head: [FINISHED] * 8 for head in HEADS}
    states["arcface"] = [DIVERGED, *[FINISHED] * 4, *[MISSING] * 3]
    plan = {"max_seeds": 8, "first_look": 5, "spending": "obrien-fleming"}
    found = verdicts(made(states, **plan))
    head = found.set_index("label").loc["arcface"]
    assert (head["verdict"], head["look"], head["looks_left"]) == ("unstable", 5, 0)
    (line,) = describe(found)
    assert "unstable: arcface" in line


def test_a_protocol_of_several_cells_diverged_with_one_of_them():
    rows = [
        verified(head, seed, 0.6 + gain + 0.01 * seed, comparison=part, state="done",
                 data_parameters={"tested_set": part}, setting="ten sets")
        for head, gain in (("softmax", 0.0), ("arcface", 0.1))
        for seed in range(3)
        for part in ("one", "two")
    ]  # fmt: skip
    rows[-1] |= {"state": DIVERGED, "verification_accuracy": None, "verification": None}
    whole = compared_tables(frame(rows))[0].rows
    assert whole["state"].tolist() == [FINISHED] * 5 + [DIVERGED]
    found = verdicts(frame(rows)).iloc[0]
    assert (found["verdict"], found["diverged"], found["seeds"]) == ("unstable", 1, 2)


def test_every_verdict_with_a_difference_has_a_colour_and_a_marker():
    states = {"softmax": [FINISHED] * 4, "arcface": [DIVERGED, *[FINISHED] * 3]}
    figure = forest_figure(verdicts(made(states)))
    assert [name for name, _, _ in figure.interactive.series] == ["unstable"]
    assert set(COLOURS) == set(MARKERS) == set(VERDICTS) - {"diverged", "no result"}
    assert len(set(COLOURS.values())) == len(COLOURS)
