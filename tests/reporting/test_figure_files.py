"""A figure as files."""

import io

import numpy as np
from matplotlib.figure import Figure as Drawing
from PIL import Image

from marginbench.reporting.drawing import new_figure
from marginbench.reporting.figure_files import ENDINGS, save_figure, with_few_colours
from marginbench.reporting.sections import Figure


def drawn() -> Figure:
    figure, (axis,) = new_figure(1, 1, width=3, height=2)
    axis.plot([0, 1], [0, 1], label="a line")
    axis.fill_between([0, 1], [0, 0], [0, 1])
    axis.legend()
    return Figure("line", "a line", figure, None)


def test_the_same_figure_is_the_same_file(tmp_path):
    first, second = (save_figure(drawn(), tmp_path / name) for name in ("a", "b"))
    assert len(first) == len(ENDINGS)
    assert first == second


def test_each_file_is_drawn_once(tmp_path, monkeypatch):
    figure = drawn()
    draws = []
    draw = Drawing.draw
    monkeypatch.setattr(Drawing, "draw", lambda self, to: draws.append(draw(self, to)))
    save_figure(figure, tmp_path / "line")
    assert len(draws) == len(ENDINGS)


def test_all_files_have_one_layout(tmp_path):
    figure = drawn()
    before = figure.figure.axes[0].get_position().bounds
    save_figure(figure, tmp_path / "line")
    laid_out = figure.figure.axes[0].get_position().bounds
    figure.figure.draw_without_rendering()
    assert before != laid_out == figure.figure.axes[0].get_position().bounds


def test_fewer_colours_keep_white_and_the_tint_of_a_band(tmp_path):
    (png,) = save_figure(drawn(), tmp_path / "line", ("png",))
    few = with_few_colours(png)
    assert len(few) < len(png) / 2
    before, after = (
        np.asarray(Image.open(io.BytesIO(one)).convert("RGB")).astype(int) for one in (png, few)
    )
    assert (after[(before == 255).all(axis=2)] == 255).all()
    assert np.abs(after - before).mean() < 0.2
