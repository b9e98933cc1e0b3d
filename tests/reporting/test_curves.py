"""Curves: one frame for the still picture and for the page."""

import math

import numpy as np
import pandas as pd
import pytest
from marginbench.reports.overfitting import error_curves, error_figure

from marginbench.reporting.curves import CURVE_COLUMNS, band_over_seeds
from marginbench.reporting.drawing import WIDTHS, new_figure, paper_columns
from tests.reports.frames import frame, row, with_history


def test_a_band_goes_from_the_lowest_seed_to_the_highest_and_one_seed_has_none():
    assert band_over_seeds(pd.Series([1.0, 4.0, 1.0])) == {"y": 2, "low": 1, "high": 4, "seeds": 3}
    alone = band_over_seeds(pd.Series([3.0, math.nan]))
    assert (alone["y"], alone["seeds"]) == (3, 1)
    assert math.isnan(alone["low"])


@pytest.fixture
def curves(tmp_path):
    rows = [row("softmax", None, s, e) for s, e in ((0, 0.2), (1, 0.4))] + [
        row("arcface", None, 0, 0.0)
    ]
    return error_curves(frame(with_history(rows, tmp_path)))


def test_error_curves_are_the_mean_over_seeds_in_percent(curves):
    assert list(curves.columns) == CURVE_COLUMNS
    last = curves[(curves["panel"] == "Test error") & (curves["x"] == 10)].set_index("label")
    assert last.loc["softmax", ["y", "low", "high", "seeds"]].tolist() == [30, 20, 40, 2]


def test_an_error_of_zero_has_a_place_on_a_logarithmic_scale(curves):
    errors = curves[(curves["panel"] == "Test error") & (curves["label"] == "arcface")]
    assert errors["y"].tolist() == [10, 10]
    gaps = curves[(curves["panel"] == "Gap: test − training") & (curves["label"] == "arcface")]
    assert gaps["y"].tolist() == [0, 0]


def test_the_still_picture_and_the_page_have_the_same_data(curves):
    figure = error_figure("MNIST", curves)
    panels = [panel["title"] for panel in figure.interactive.panels]
    assert panels == [axis.get_title() for axis in figure.figure.axes]
    # In the report's style wherever it is called.
    assert {axis.title.get_fontsize() for axis in figure.figure.axes} == {8}
    assert figure.data is curves
    for panel, axis in zip(panels, figure.figure.axes, strict=True):
        for line in axis.lines:
            own = curves[(curves["panel"] == panel) & (curves["label"] == line.get_label())]
            assert np.array_equal(line.get_ydata(), own["y"])
    assert [name for name, _, _ in figure.interactive.series] == ["softmax", "arcface"]


@pytest.mark.parametrize("columns", [1, 2])
def test_a_figure_has_the_width_of_a_papers_columns(columns):
    with paper_columns(columns):
        figure, axes = new_figure(1, 3, width=4.6, height=3.9)
    assert figure.get_size_inches()[0] == pytest.approx(WIDTHS[columns], abs=0.15)
    assert len(axes) == 3
