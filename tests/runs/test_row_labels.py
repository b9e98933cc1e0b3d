"""The names of a table's rows."""

import itertools
import math

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from marginbench.reports.feature_geometry import gaps_against_m

from marginbench.errors import UserError
from marginbench.experiments.cell_fields import Optimiser
from marginbench.experiments.cells import cell_from_json
from marginbench.experiments.grids import component, grid
from marginbench.experiments.suites import Suite
from marginbench.reporting.before_after import changes
from marginbench.reporting.comparison_table import compare
from marginbench.reporting.sections import Section, SectionContent, Table
from marginbench.reporting.several_suites import other_parameters, ranking, together
from marginbench.reporting.verdicts import finished_values, verdicts
from marginbench.runs import conditions
from marginbench.runs.conditions import conditions_text, differences, row_labels
from marginbench.runs.results import history, results
from marginbench.runs.run_folder import RunFolder
from marginbench.runs.suite_runs import SuiteRun
from marginbench.text import slug
from tests.conftest import tiny_cell
from tests.reports.frames import frame as made_frame
from tests.reports.frames import row
from tests.runs.made_runs import write_run


def test_labels_tell_rows_of_one_head_apart_and_no_more():
    cells = grid(
        data="digits",
        backbone="small",
        head=[
            "softmax",
            component("hinge", norm="L1"),
            component("hinge", norm="L2"),
            component("arcface", m=0.3, s=10.0),
            component("am-softmax", m=0.3, s=10.0),
            component("am-softmax", m=0.3, s=20.0),
        ],
        schedule=tiny_cell().schedule,
    )
    assert row_labels(cells) == [
        "softmax",
        "hinge norm=L1",
        "hinge norm=L2",
        "arcface m=0.3",
        "am-softmax m=0.3 s=10",
        "am-softmax m=0.3 s=20",
    ]


NEAR = (0.3, 0.1 + 0.2, math.nextafter(0.3, 0), 0.3000001, 30.0, 30, 1e6, 1000001.0, True, 1, None)
TEXTS = ("None", "0.3", "True", "L1", "L1 s=30", "a\n", "a\\n", '"L1"', "", "x" * 70, "x" * 71)
values = st.sampled_from(NEAR + TEXTS) | st.floats(0.2999999, 0.3000001) | st.text(max_size=3)
values |= st.lists(values, max_size=3) | st.lists(values, max_size=3).map(tuple)
heads = st.builds(
    lambda name, parameters: component(name, **parameters),
    st.sampled_from(["arcface", "pml:ArcFaceLoss"]),
    st.dictionaries(st.sampled_from(["m", "s", "norm", "chunk"]), values),
)


@given(st.lists(st.tuples(heads, st.sampled_from([0.1, 0.2])), min_size=2, max_size=6))
@settings(max_examples=150)
def test_labels_differ_within_a_comparison_if_and_only_if_the_heads_do(drawn):
    base = tiny_cell()
    cells = [
        base.model_copy(update={"head": head, "optimiser": Optimiser(learning_rate=rate)})
        for head, rate in drawn
    ]
    labelled = list(zip(cells, row_labels(cells), strict=True))
    for (one, label), (other, its_label) in itertools.combinations(labelled, 2):
        same = one.head_key == other.head_key
        assert not same or label == its_label
        if one.comparison == other.comparison:
            assert same == (label == its_label), (label, its_label)


def test_a_label_has_the_digits_that_tell_its_row_apart_and_no_more():
    def labels(*margins):
        return row_labels([tiny_cell("am-softmax", m=m) for m in margins])

    assert labels(1 / 3, 0.3) == ["am-softmax m=0.333333", "am-softmax m=0.3"]
    assert labels(0.3, 0.1 + 0.2) == ["am-softmax m=0.3", "am-softmax m=0.30000000000000004"]


def two_near_heads(tmp_path):
    """The results of two heads whose parameters agree to six digits, and of softmax; two seeds."""
    heads = {"softmax": {}, "am-softmax": {"m": 0.3}, "am-softmax ": {"m": 0.1 + 0.2}}
    cells = [tiny_cell(h.strip(), seed=s, **p) for h, p in heads.items() for s in (0, 1)]
    suite = Suite("near", "", "", 2, "softmax", None, lambda seeds: cells)
    runs = [RunFolder(tmp_path, cell) for cell in cells]
    for run, error in zip(runs, (0.1, 0.12, 0.115, 0.135, 0.117, 0.137), strict=True):
        write_run(run, error)
    return results(SuiteRun(suite, tmp_path, runs, len(runs)))


def test_heads_that_agree_to_six_digits_are_two_rows_everywhere(tmp_path):
    frame = two_near_heads(tmp_path)
    assert [(row.label, row.seed_count) for row in compare(frame)] == [
        ("softmax", "2"),
        ("am-softmax m=0.3", "2"),
        ("am-softmax m=0.30000000000000004", "2"),
    ]
    found = verdicts(frame)
    assert found["seeds"].tolist() == [2, 2]
    assert found["difference"].tolist() == pytest.approx([0.015, 0.017])
    assert found["label"].is_unique
    errors = ranking(together({"a": frame, "b": frame})).errors
    assert errors.iloc[0].tolist() == pytest.approx([0.11, 0.125, 0.127])
    pairs = changes(frame, frame)
    assert pairs["label"].tolist() == frame["label"].unique().tolist()
    assert pairs["seeds"].tolist() == [2, 2, 2]
    assert len(gaps_against_m(frame)) == 2
    assert history(frame).groupby("label").size().tolist() == [2, 2, 2]


def test_a_frame_with_a_head_and_seed_twice_is_refused_by_name(tmp_path):
    frame = two_near_heads(tmp_path)
    message = "'softmax' has two rows of seed 0"
    for use in (verdicts, conditions.settings, lambda frame: changes(frame, frame)):
        with pytest.raises(UserError, match=message):
            use(pd.concat([frame, frame]))
    merged = frame.assign(label=frame["head"], seed=range(len(frame)))
    with pytest.raises(UserError, match="'am-softmax' has rows of two heads"):
        verdicts(merged)
    with pytest.raises(ValueError, match="two values"):
        finished_values(frame.assign(value=frame["test_error"], seed=0))


def test_a_head_is_one_row_over_suites_that_name_it_otherwise():
    def suite_of(*scales):
        cells = [tiny_cell("am-softmax", m=0.3, s=s) for s in scales]
        rows = [
            row("am-softmax", label=label, head_parameters=c.head.parameters, head_key=c.head_key)
            for c, label in zip(cells, row_labels(cells), strict=True)
        ]
        return made_frame(rows)

    labels = [f"am-softmax m=0.3 s={s}" for s in (10, 20)]
    both = together({"a": suite_of(10.0, 20.0), "b": suite_of(10.0)})
    assert both["label"].tolist() == [*labels, labels[0]]
    # Where each suite has one, it is the suite's own value, and said.
    other = together({"a": suite_of(10.0), "b": suite_of(20.0)})
    assert other["label"].tolist() == ["am-softmax m=0.3"] * 2
    assert other_parameters(other) == [
        "am-softmax m=0.3 is one head here, with parameters of each suite: s=10 (a); s=20 (b)."
    ]
    assert other_parameters(both) == []


def test_settings_named_alike_stay_apart_in_names_and_files():
    names = ["A", "A", "A (2)", "a"]
    rows = [row(setting=name, comparison=str(n)) for n, name in enumerate(names)]
    found = [name for name, _ in conditions.settings(made_frame(rows))]
    assert len(set(found)) == 4
    tables = Section("x", "X", 1, lambda frame: SectionContent(tables=[
        Table(f"t-{slug(name)}", "", frame) for name in names
    ])).content(made_frame(rows)).tables  # fmt: skip
    assert len({table.name for table in tables}) == 4


def test_conditions_with_one_last_name_are_both_shown():
    assert conditions_text(
        {"data.name": "mnist", "backbone.name": "small", "optimiser.learning_rate": 1 / 3},
        ["data.name", "backbone.name", "optimiser.learning_rate"],
    ) == f"data.name=mnist backbone.name=small learning_rate={1 / 3}"  # fmt: skip


def test_cells_whose_folders_differ_in_the_key_alone_say_what_differs():
    cells = [tiny_cell("am-softmax", m=0.3, s=s, seed=seed) for s in (5, 15) for seed in (0, 1)]
    cells += [tiny_cell(iterations=n) for n in (24, 25)] + [tiny_cell("arcface")]
    found = [differences(cells).get(cell.key) for cell in cells]
    assert found == ["s=5", "s=5", "s=15", "s=15", "iterations=24", "iterations=25", None]
    stored = cell_from_json(tiny_cell().model_copy(update={"execution": "fused"}).to_json())
    assert set(differences([tiny_cell(), stored]).values()) == {
        "execution=eager",
        "execution=fused",
    }
    shown = {(cell.slug, text) for cell, text in zip(cells, found, strict=True)}
    assert len(shown) == len(cells)
