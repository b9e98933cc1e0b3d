"""Published folders come from the run folders alone, and are no part of the package."""

import pkgutil
from pathlib import Path

import marginbench.reports
import pandas as pd
import pytest

from benchmarks.publish import _cells, main
from marginbench.runs.suite_runs import open_suite
from tests.conftest import train_cell
from tests.reports import frames

PUBLISHED = Path(__file__).parents[1] / "reports" / "published"


@pytest.fixture(scope="module")
def published(tmp_path_factory, tiny_suite):
    """The tiny suite's cells but one, trained; its published folder and its run."""
    folder = tmp_path_factory.mktemp("published")
    run = open_suite(str(tiny_suite), folder / "runs")
    for cell in run.runs[:-1]:
        train_cell(cell.cell, run.folder)
    main([str(tiny_suite), "--runs", str(folder / "runs"), "--target", str(folder / "out")])
    return folder / "out" / "tiny", run


def test_the_page_tells_command_times_versions_and_what_is_missing(published, tiny_suite):
    folder, run = published
    page = (folder / "README.md").read_text()
    for words in (
        f"    marginbench run {tiny_suite}\n",
        "3 of 4 cells done, seeds 0, 1",
        "torch ",
        "of processor time in training",
        "1 of 2, 1 not started",
    ):
        assert words in page
    for cell in run.runs:
        assert cell.key in page


def test_the_page_names_every_figure(published):
    folder, _ = published
    figures = sorted(folder.glob("*.png"))
    assert figures
    page = (folder / "README.md").read_text()
    for figure in figures:
        assert f"]({figure.name})" in page


def test_the_cells_have_the_numbers_of_their_results(published):
    folder, run = published
    cells = pd.read_csv(folder / "cells.csv", dtype=str)
    for row, trained in zip(cells.itertuples(), run.runs[:-1], strict=False):
        result = trained.read_result()
        assert row.key == trained.key
        assert float(row[6]) == pytest.approx(100 * result["test_error"], abs=0.005)
    assert cells["state"].tolist() == ["done"] * 3 + ["not started"]


def test_cells_of_several_settings_say_which():
    one = _cells(frames.frame([frames.row(key="a")]))
    several = _cells(frames.frame([frames.row(key="a"), frames.row(key="b", setting="other")]))
    assert "setting" not in one.columns
    assert several["setting"].tolist() == ["MNIST (Table 2)", "other"]


def test_published_folders_hold_no_code_and_are_not_imported():
    assert {path.suffix for path in PUBLISHED.rglob("*") if path.is_file()} <= {
        ".md",
        ".png",
        ".csv",
    }
    modules = {module.name for module in pkgutil.iter_modules(marginbench.reports.__path__)}
    assert "paper_numbers" in modules
    assert "published" not in modules


def test_published_folders_stay_small():
    assert sum(path.stat().st_size for path in PUBLISHED.rglob("*.*")) < 2_000_000
