"""Fig. 5's choice of heads, Fig. 6's gaps and Fig. 7's widths."""

import numpy as np
from marginbench.reports.class_cosine import class_cosine
from marginbench.reports.feature_plots import features
from marginbench.reports.overfitting import overfitting
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


def test_classes_of_one_name_have_their_own_place_in_each_figure(tmp_path):
    points = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0]])
    arrays = {f"{split}_features": points for split in ("test", "train")}
    arrays |= {f"{split}_labels": np.array([0, 1, 1]) for split in ("test", "train")}
    np.savez(
        tmp_path / "evaluation.npz", class_cosine=np.eye(2), class_weights=points[:2], **arrays
    )
    rows = [row(folder=tmp_path, class_names=["cat", "cat"], feature_dimension=2)]
    for figure in features(frame(rows)).figures:
        assert figure.data.groupby("class")["y"].sum().to_dict() == {"cat": 0, "cat (2)": 3}
        colours = [tuple(one.get_facecolor()[0]) for one in figure.figure.axes[0].collections]
        assert len(set(colours)) == 2
    (figure,) = class_cosine(frame(rows)).figures
    assert not figure.data.duplicated(["class", "other class"]).any()


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
