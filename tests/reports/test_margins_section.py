"""The report's section of margins: curves, boundaries, what is left out, and odd grids."""

import io

import numpy as np
import pandas as pd
import pytest

from marginbench.heads import resolve_head_parameters
from marginbench.reporting.drawing import label_styles
from marginbench.reporting.sections import chosen_sections
from tests.conftest import built_in_heads

DEGREES = np.linspace(0, 180, 721)


def frame(*entries, setting="cifar10"):
    return pd.DataFrame(
        [
            {
                "head": head,
                "head_parameters": resolve_head_parameters(head, parameters),
                "label": label,
                "setting": setting,
                "seed": seed,
            }
            for label, head, parameters in entries
            for seed in (0, 1)
        ]
    )


def content(results):
    (section,) = chosen_sections(["margins"])
    return section.content(results)


def line(figure, label):
    (axes,) = figure.figure.axes
    (found,) = (line for line in axes.get_lines() if line.get_label() == label)
    return found


def at(found, degrees):
    return np.interp(degrees, found.get_xdata(), found.get_ydata())


PAPER = frame(
    ("softmax", "softmax", {}), *[(f"l-softmax m={m}", "l-softmax", {"m": m}) for m in (2, 3, 4)]
)


def test_psi_is_drawn_as_in_figure_3():
    psi = content(PAPER).figures[0]
    assert at(line(psi, "softmax"), 90) == pytest.approx(0, abs=1e-3)
    for m in (2, 3, 4):
        for k in range(m + 1):
            value = at(line(psi, f"l-softmax m={m}"), 180 * k / m)
            assert value == pytest.approx(1 - 2 * k, abs=1e-3)


def test_the_slope_is_that_of_psi():
    psi, slope, _ = content(PAPER).figures
    for label in ("softmax", "l-softmax m=3"):
        values = line(psi, label).get_ydata()
        angles = np.radians(line(psi, label).get_xdata())
        expected = np.gradient(values, angles)[1:-1]
        # Where ψ bends, a degree's finite difference is that far from the slope.
        np.testing.assert_allclose(line(slope, label).get_ydata()[1:-1], expected, atol=0.08)


def test_a_detached_margin_has_the_slope_of_the_cosine():
    slope = content(frame(("detached", "arcface", {"grad": "detached"}))).figures[1]
    angles = np.radians(line(slope, "detached").get_xdata())
    np.testing.assert_allclose(line(slope, "detached").get_ydata(), -np.sin(angles), atol=1e-9)


@pytest.mark.parametrize(
    ("head", "parameters", "own", "other"),
    [
        ("softmax", {}, 40, 40),
        ("l-softmax", {"m": 3}, 20, 60),
        ("a-softmax", {"m": 4}, 30, 120),
        ("arcface", {"m": np.pi / 6}, 50, 80),
        ("am-softmax", {"m": 0.5}, 60, 90),
        ("sphereface-r", {"m": 1.5, "version": "v2"}, 40, 60),
    ],
)
def test_the_boundary_goes_through_the_points_of_the_formula(head, parameters, own, other):
    (axes,) = content(frame(("it", head, parameters))).figures[2].figure.axes
    (contour,) = axes.collections
    points = np.concatenate([path.vertices for path in contour.get_paths()])
    assert np.hypot(*(points - [own, other]).T).min() < 0.3


def test_equal_curves_share_a_line_and_a_legend_entry():
    results = frame(("one", "softmax", {}), ("two", "normface", {}), ("three", "am-softmax", {}))
    labels = [text.get_text() for text in content(results).figures[0].figure.legends[0].get_texts()]
    assert labels == ["one,\ntwo", "three"]


def test_heads_without_psi_are_named_with_the_reason():
    shown = content(frame(("h", "hinge", {}), ("c", "contrastive", {}), ("s", "softmax", {})))
    (left_out,) = (table for table in shown.tables if table.name == "margins-not-drawn")
    reasons = dict(zip(left_out.frame["loss"], left_out.frame["not drawn because"], strict=True))
    assert "no function ψ" in reasons["h"]
    assert "between samples" in reasons["c"]
    only = content(frame(("h", "hinge", {})))
    assert only.figures == []
    assert [table.name for table in only.tables] == ["margins-not-drawn"]


def test_a_head_that_is_not_installed_is_named():
    results = pd.DataFrame([{"head": "absent", "label": "a", "head_parameters": {}}])
    (table,) = content(results).tables
    assert "unknown head 'absent'" in table.frame["not drawn because"][0]


@pytest.mark.parametrize(
    "results",
    [
        pd.DataFrame(),
        pd.DataFrame(columns=["head", "label", "head_parameters", "setting"]),
        pd.DataFrame([{"label": "a"}]),
        pd.DataFrame([{"head": None, "label": "a"}, {"head": "softmax", "label": float("nan")}]),
    ],
)
def test_nothing_to_draw_shows_nothing(results):
    shown = content(results)
    assert (shown.text, shown.tables, shown.figures) == ([], [], [])


def test_one_label_of_two_meanings_says_the_setting():
    results = pd.concat(
        [
            frame(("arcface", "arcface", {"m": 0.5}), setting="faces"),
            frame(("arcface", "arcface", {"m": 0.2}), setting="digits"),
        ]
    )
    table = content(results).tables[0].frame
    assert list(table["loss"]) == ["arcface (faces)", "arcface (digits)"]


def test_class_weights_for_many_classes_are_drawn():
    weights = tuple([1.0] * 100)
    shown = content(frame(("w", "weighted-softmax", {"class_weights": weights})))
    assert len(shown.figures) == 3


def test_every_built_in_head_is_drawn_or_left_out_with_a_formula_or_a_reason():
    shown = content(frame(*[(name, name, {}) for name in built_in_heads()]))
    tables = {table.name: table.frame for table in shown.tables}
    drawn = set(tables["margins-boundaries"]["loss"])
    left_out = set(tables["margins-not-drawn"]["loss"])
    assert left_out == {"hinge", "center", "contrastive", "triplet"}
    assert drawn == set(built_in_heads()) - left_out
    assert "not stated" not in set(tables["margins-boundaries"]["decision boundary of class 1"])
    for figure in shown.figures:
        figure.figure.savefig(io.BytesIO(), format="png")  # so that it is laid out
        (axes,), (legend,) = figure.figure.axes, figure.figure.legends
        assert not axes.get_window_extent().overlaps(legend.get_window_extent())
        whole = figure.figure.bbox
        for part in (legend.get_window_extent(), axes.yaxis.label.get_window_extent()):
            assert whole.containsx(part.x0)
            assert whole.containsx(part.x1)
            assert whole.containsy(part.y0)


def test_styles_depend_on_the_set_of_labels_alone_and_differ():
    labels = [f"loss {i}" for i in range(25)]
    styles = label_styles(labels)
    assert styles == label_styles(reversed(labels + labels))
    assert len(set(styles.values())) == 25
