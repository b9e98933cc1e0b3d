"""Fig. 5's choice of heads, Fig. 6's gaps, Fig. 7's widths, and the choices of tuning."""

import numpy as np
from marginbench.reports.class_cosine import class_cosine
from marginbench.reports.overfitting import overfitting
from marginbench.reports.tuning import tuning
from marginbench.reports.widths import widths

from tests.reports.frames import frame, row, with_history


def test_widths_draws_one_curve_a_width(tmp_path):
    rows = [
        row("l-softmax", 4, seed, error, comparison=str(filters), backbone_parameters=network)
        for filters, error in (((8, 16), 0.4), ((16, 32), 0.2))
        for seed in (0, 1)
        for network in [{"filters": filters, "features": 64}]
    ]
    content = widths(frame(with_history(rows, tmp_path)))
    (figure,), (table,) = content.figures, content.tables
    train, test = figure.figure.axes
    assert [line.get_label() for line in test.lines] == ["8/16", "16/32"]
    assert test.lines[0].get_ydata().tolist() == [80, 40]
    assert train.lines[1].get_ydata().tolist() == [20, 10]
    assert table.frame["filters"].tolist() == ["8/16", "16/32"]
    assert table.frame["test error %"].tolist() == ["40.00 ± 0.00", "20.00 ± 0.00"]
    assert table.frame["gap"].tolist() == ["20.00 ± 0.00", "10.00 ± 0.00"]


def test_widths_says_nothing_of_networks_that_differ_otherwise(tmp_path):
    rows = [
        row(
            backbone_parameters={"filters": (8, 16), "features": features}, comparison=str(features)
        )
        for features in (32, 64)
    ]
    assert widths(frame(with_history(rows, tmp_path))).figures == []
    assert widths(frame([row(state="failed")])).tables == []


def test_widths_keeps_networks_apart_that_differ_in_more_than_width(tmp_path):
    """Batch sizes 32 and 64, two widths each: two figures that say which, in files of their own."""
    rows = [
        row(
            backbone_parameters={"width": width},
            error=width / 10 + size / 1000,
            conditions={"schedule.batch_size": size},
        )
        for size in (32, 64)
        for width in (0.5, 1.0)
    ]
    content = widths(frame(with_history(rows, tmp_path)))
    assert [t.frame["test error %"].tolist() for t in content.tables] == [
        ["8.20", "13.20"],
        ["11.40", "16.40"],
    ]
    for shown in (content.tables, content.figures):
        assert "batch_size=32" in shown[0].caption
        assert "batch_size=64" in shown[1].caption
        assert shown[0].name != shown[1].name


def test_widths_counts_what_diverged(tmp_path):
    rows = [
        row(backbone_parameters={"width": width}, comparison=str(width), seed=seed)
        for width in (0.5, 1.0)
        for seed in (0, 1)
    ]
    with_history(rows, tmp_path)
    for values in rows[2:]:
        values |= {"state": "diverged"}
    content = widths(frame(rows))
    assert content.tables[0].frame["seeds"].tolist() == ["2", "0 of 2, 2 diverged"]
    assert content.tables[0].frame["test error %"].tolist()[1] == "–"
    assert [line.get_label() for line in content.figures[0].figure.axes[0].lines] == ["width 0.5"]


def test_gaps_stand_in_a_table_the_smallest_first(tmp_path):
    rows = [row("softmax", None, s, e) for s, e in ((0, 0.3), (1, 0.5))] + [
        row("arcface", error=0.1)
    ]
    content = overfitting(frame(with_history(rows, tmp_path)))
    (table,) = content.tables
    assert table.frame["head"].tolist() == ["arcface", "softmax"]
    assert table.frame["gap"].tolist() == ["5.00", "20.00 ± 7.07"]


def test_class_cosine_shows_the_papers_pair_and_the_best(tmp_path):
    rows = [row(), row("l-softmax", 4, error=0.08), row("l-softmax", 2), row("arcface", error=0.05)]
    for number, values in enumerate(rows):
        folder = tmp_path / str(number)
        folder.mkdir()
        np.savez(folder / "evaluation.npz", class_cosine=np.eye(3))
        values |= {"folder": folder, "class_names": ["a", "b", "c"]}
    (figure,) = class_cosine(frame(rows)).figures
    titles = [axis.get_title().split("\n")[0] for axis in figure.figure.axes]
    assert [title for title in titles if title] == ["softmax", "l-softmax m=4", "arcface"]


def test_tuning_names_the_best_choice_of_each_head():
    held_out = {"data_parameters": {"validation": "held-out"}}
    rows = [
        row(
            seed=seed,
            error=error + 0.01 * seed,
            learning_rate=rate,
            comparison=str(rate),
            **held_out,
        )
        for rate, error in ((0.1, 0.3), (0.02, 0.2))
        for seed in (0, 1)
    ]
    rows += [
        row(
            "arcface",
            None,
            error=s / 100,
            head_parameters={"m": 0.3, "s": s},
            state=state,
            **held_out,
        )
        for s, state in ((8.0, "diverged"), (16.0, "done"), (30.0, "done"))
    ]
    best, every = tuning(frame(rows)).tables
    assert best.frame["head"].tolist() == ["arcface", "softmax"]
    assert best.frame["parameters"].tolist() == ["s=16", ""]
    assert best.frame["learning rate"].tolist() == ["0.1", "0.02"]
    assert best.frame["held-out error %"].tolist() == ["16.00", "20.50"]
    assert len(every.frame) == 5
    assert every.frame.iloc[-1]["state"] == "diverged"
    assert every.frame.iloc[-1]["held-out error %"] == "–"


HELD_OUT = {"data_parameters": {"validation": "held-out"}}


def test_tuning_never_averages_over_what_differs_in_more_than_the_seed():
    rows = [
        row(seed=s, error=e, **HELD_OUT, conditions={"schedule.batch_size": b})
        for b, e in ((32, 0.1), (64, 0.5))
        for s in (0, 1)
    ]
    best, every = tuning(frame(rows)).tables
    assert every.frame["held-out error %"].tolist() == ["10.00", "50.00"]
    assert every.frame["conditions"].tolist() == ["batch_size=32", "batch_size=64"]
    assert best.frame["conditions"].tolist() == ["batch_size=32"]


def test_tuning_never_prefers_a_choice_whose_seeds_did_not_all_finish():
    states = {0.1: ("done", "diverged", "diverged"), 0.02: ("done",) * 3, 0.5: ("done", "failed")}
    errors = {0.1: 0.01, 0.02: 0.2, 0.5: 0.02}
    rows = [
        row(seed=seed, error=errors[rate], learning_rate=rate, state=state, **HELD_OUT)
        for rate, those in states.items()
        for seed, state in enumerate(those)
    ]
    best, every = tuning(frame(rows)).tables
    assert best.frame["learning rate"].tolist() == ["0.02"]
    assert every.frame["learning rate"].tolist() == ["0.02", "0.5", "0.1"]
    (every,) = tuning(frame(rows[:3])).tables
    assert every.frame["learning rate"].tolist() == ["0.1"]


def test_tuning_is_silent_where_the_test_set_was_used():
    assert tuning(frame([row(data_parameters={"validation": "none"}), row()])).tables == []
