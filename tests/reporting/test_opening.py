"""What the page opens with: the verdicts in words, and the forest plot."""

import re
from importlib.resources import files

import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.text import Text

from marginbench.reporting.drawing import paper_columns
from marginbench.reporting.forest import COLOURS, forest_data, forest_figure
from marginbench.reporting.opening import findings
from tests.reporting.made_verdicts import made_verdicts, verdict


def test_every_verdict_is_said_once_with_its_numbers():
    told = [(one.subject, one.kind, list(one.items)) for one in findings(made_verdicts())]
    digits = "ten digits: test error against softmax, 5 to 10 seeds"
    faces = "open set: verification accuracy against softmax, 10 seeds"
    few = "(too few seeds to say how many it takes)"
    assert told == [
        (digits, "better", ["softmax 5.00 % → l-softmax m=3 4.15 %, −0.85 [−1.13, −0.57] points"]),
        (digits, "worse", ["softmax 5.00 % → hinge 5.30 %, +0.30 [+0.20, +0.40] points"]),
        (
            digits,
            "equal",
            [
                "softmax 5.00 % → contrastive 5.01 %, +0.01 [−0.09, +0.11] points: within ±0.20 "
                "points"
            ],
        ),
        (
            digits,
            "not decided",
            ["softmax 5.00 % → arcface m=0.3 4.90 %, −0.10 [−0.20, +0.00] points (+4 seeds)"],
        ),
        (
            digits,
            "unstable",
            ["softmax 5.00 % → magface 4.00 %, −1.00 [−1.10, −0.90] points (5 of 10 diverged)"],
        ),
        (digits, "diverged", ["triplet (10 of 10 diverged)"]),
        (faces, "better", ["softmax 5.00 % → hinge 7.00 %, +2.00 [+1.90, +2.10] points"]),
        (
            faces,
            "not decided",
            [
                "softmax 5.00 % → l-softmax m=3 0.00 %, −5.00 [−5.10, −4.90] points "
                "(over 10,000 seeds)"
            ],
        ),
        (
            "2-D: test error against softmax, 1 seed",
            "not decided",
            [
                f"softmax 5.00 % → arcface m=0.1 7.00 %, +2.00 points {few}",
                f"softmax 5.00 % → hinge 6.00 %, +1.00 points {few}",
            ],
        ),
    ]


def test_heads_that_have_not_fitted_are_named_and_the_baseline_first_of_all():
    marked = {"train_error": 0.836, "baseline_train_error": 0.002, "not_fitted": True}
    rows = [verdict("arcface", "equal"), verdict("l-softmax m=2", "worse", 0.287, **marked)]
    *_, last = findings(pd.DataFrame(rows))
    assert (last.kind, last.items) == (
        "not fitted",
        ["l-softmax m=2 (training error 83.6 %, softmax 0.2 %)"],
    )
    lost = {"baseline_train_error": 0.89, "baseline_not_fitted": True}
    first = findings(pd.DataFrame([row | lost for row in rows]))[0]
    assert first.kind == "not fitted"
    assert first.items[0].startswith("the baseline softmax: training error 89.0 %")


def test_where_all_heads_diverged_there_are_no_seeds():
    verdicts = made_verdicts()
    (found,) = findings(verdicts[verdicts["verdict"] == "diverged"])
    assert found.subject == "ten digits: test error against softmax, 0 seeds"


def test_the_forest_has_the_best_first_and_no_panel_without_an_interval():
    data = forest_data(made_verdicts())
    errors, accuracies = [rows["label"].tolist() for _, rows in data.groupby("panel", sort=False)]
    assert errors == ["magface", "l-softmax m=3", "arcface m=0.3", "contrastive", "hinge"]
    assert accuracies == ["hinge", "l-softmax m=3"]
    assert data["difference"].iloc[1] == pytest.approx(-0.85)
    assert data["more_seeds"].dropna().tolist() == [4.0]


def test_the_still_forest_shows_the_data_in_the_verdicts_colour():
    figure = forest_figure(made_verdicts())
    axis = figure.figure.axes[0]
    assert axis.get_yticklabels()[1].get_text() == "l-softmax m=3"
    unstable, interval, mean = axis.lines[1:4]
    assert interval.get_xdata() == pytest.approx([-1.13, -0.57])
    assert mean.get_xdata() == pytest.approx([-0.85])
    assert to_hex(mean.get_color()) == COLOURS["better"]
    assert (to_hex(unstable.get_color()), unstable.get_marker()) == (COLOURS["unstable"], "^")
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


def test_no_mark_of_a_figure_has_another_colour_in_the_dark():
    css = (files("marginbench.reporting") / "assets/page.css").read_text()
    filtered = [rule for rule in re.findall(r"([^{}]*)\{([^{}]*)\}", css) if "filter" in rule[1]]
    assert all("svg" not in selector for selector, _ in filtered)
