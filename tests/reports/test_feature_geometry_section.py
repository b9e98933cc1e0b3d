"""What the margin does to features, from rows made by hand."""

import pytest
from marginbench.reports.feature_geometry import gaps_against_m, geometry

from tests.reports.frames import frame, row

MEASURED = {
    "angle_to_centre": 20.0,
    "angle_between_centres": 80.0,
    "compactness_ratio": 0.25,
    "feature_norm": 3.0,
    "calibration_error": 0.05,
    "scaled_calibration_error": 0.02,
}


def test_a_table_of_what_was_measured_and_a_count_of_what_was_not():
    rows = [row(seed=0, **MEASURED), row(seed=1, **MEASURED | {"angle_to_centre": 22.0})]
    rows += [row("arcface", seed=0), row("arcface", seed=1, error=None, state="diverged")]
    content = geometry(frame(rows))
    (table,) = content.tables
    (cells,) = table.frame.to_dict("records")
    assert cells["head"] == "softmax"
    assert cells["to own centre °"] == "21.0 ± 1.4"
    assert cells["ECE %"] == "5.00 ± 0.00"
    assert cells["temperature"] == "–"
    assert content.text[0].startswith("MNIST (Table 2): 1 finished run of 3 of an earlier version")
    assert not content.figures


def test_the_gap_against_m_is_of_heads_with_several_m():
    rows = [row("l-softmax", m=m, seed=s, error=0.1 * m + 0.02 * s) for m in (4, 2) for s in (0, 1)]
    made = frame([row(), row("arcface", m=0.5), *rows])
    gaps = gaps_against_m(made)
    assert gaps["head"].tolist() == ["l-softmax", "l-softmax"]
    assert gaps["m"].tolist() == [2, 4]
    # Of the rows made by hand the training error is half the test error.
    assert gaps["gap"].tolist() == pytest.approx([0.105, 0.205])
    assert gaps["seeds"].tolist() == [2, 2]
    (figure,) = geometry(made).figures
    assert figure.name == "gap-against-m-mnist-table-2"
    assert figure.figure.axes[0].get_xticks().tolist() == [2, 4]


def test_nothing_finished_shows_nothing():
    content = geometry(frame([row(error=None, state="failed")]))
    assert (content.text, content.tables, content.figures) == ([], [], [])
