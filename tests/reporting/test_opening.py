"""What the page opens with: the verdicts in words, and the forest plot."""

import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.text import Text

from marginbench.reporting.drawing import paper_columns
from marginbench.reporting.forest import COLOURS, forest_data, forest_figure
from marginbench.reporting.opening import findings
from tests.reporting.made_verdicts import made_verdicts


def test_every_verdict_is_said_once_with_its_numbers():
    told = [(one.subject, one.kind, list(one.items)) for one in findings(made_verdicts())]
    digits = "ten digits: test error against softmax, 10 seeds"
    faces = "open set: verification accuracy against softmax, 10 seeds"
    assert told == [
        (digits, "better", ["l-softmax m=3 −0.85 [−1.13, −0.57]"]),
        (digits, "worse", ["hinge +0.30 [+0.20, +0.40]"]),
        (digits, "equal", ["contrastive +0.01 [−0.09, +0.11]: within ±0.20"]),
        (digits, "not decided", ["arcface m=0.3 (+4 seeds)"]),
        (digits, "diverged", ["triplet"]),
        (faces, "better", ["hinge +2.00 [+1.90, +2.10]"]),
        (faces, "not decided", ["l-softmax m=3 (over 10,000 seeds)"]),
        (
            "2-D: test error against softmax, 1 seed",
            "not decided",
            ["2 heads: too few seeds to say how many it takes"],
        ),
    ]


def test_where_all_heads_diverged_there_are_no_seeds():
    verdicts = made_verdicts()
    (found,) = findings(verdicts[verdicts["verdict"] == "diverged"])
    assert found.subject == "ten digits: test error against softmax, 0 seeds"


def test_the_forest_has_the_best_first_and_no_panel_without_an_interval():
    data = forest_data(made_verdicts())
    errors, accuracies = [rows["label"].tolist() for _, rows in data.groupby("panel", sort=False)]
    assert errors == ["l-softmax m=3", "arcface m=0.3", "contrastive", "hinge"]
    assert accuracies == ["hinge", "l-softmax m=3"]
    assert data["difference"].iloc[0] == pytest.approx(-0.85)
    assert data["more_seeds"].dropna().tolist() == [4.0]


def test_the_still_forest_shows_the_data_in_the_verdicts_colour():
    figure = forest_figure(made_verdicts())
    axis = figure.figure.axes[0]
    assert axis.get_yticklabels()[0].get_text() == "l-softmax m=3"
    interval, mean = axis.lines[0], axis.lines[1]
    assert interval.get_xdata() == pytest.approx([-1.13, -0.57])
    assert mean.get_xdata() == pytest.approx([-0.85])
    assert to_hex(mean.get_color()) == COLOURS["better"]
    # In the report's style wherever it is called.
    (title,) = [text for text in axis.findobj(Text) if text.get_text() == "ten digits: test error"]
    assert title.get_fontsize() == 8
    assert "are not drawn" in figure.caption


LONG = "study-fashion: Fashion-MNIST, 2,000 training images of seventy thousand and a long name"


@pytest.mark.parametrize(("columns", "across"), [(2, 2), (1, 1)])
def test_many_panels_stand_in_the_columns_of_a_page_each_under_its_whole_name(columns, across):
    made = made_verdicts()
    made = made[made["setting"] == "ten digits"]
    settings = ["one", "two", LONG, f"{LONG} too", "five"]
    several = pd.concat([made.assign(setting=name) for name in settings])
    with paper_columns(columns):
        figure = forest_figure(several).figure
    axes = figure.axes
    titles = [axis.get_title(loc="left") for axis in axes]
    assert [" ".join(title.split()) for title in titles] == [
        f"{name}: test error" if len(name) < 10 else f"{name} test error" for name in settings
    ]
    places = [axis.get_subplotspec() for axis in axes]
    assert [(place.rowspan.start, place.colspan.start) for place in places] == [
        divmod(number, across) for number in range(5)
    ]
    labelled = [bool(axis.get_xlabel()) for axis in axes]
    assert labelled == [False] * (5 - across) + [True] * across
    FigureCanvasAgg(figure).draw()
    drawn = [
        next(text for text in axis.findobj(Text) if text.get_text() in titles) for axis in axes
    ]
    assert max(title.get_window_extent().x1 for title in drawn) <= figure.bbox.x1
    # Over its own panel, not over the one beside it.
    assert across == 1 or drawn[2].get_window_extent().x1 < axes[3].get_window_extent().x0


def test_without_intervals_there_is_no_forest():
    rows = made_verdicts()
    assert forest_figure(rows[rows["setting"] == "2-D"]) is None
    assert forest_figure(rows.iloc[:0]) is None
