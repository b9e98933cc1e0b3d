"""watch, export and report --compare, by what they call: no cell is trained."""

from importlib import import_module
from itertools import count

import pytest

from marginbench.command_line.export import export_suite
from marginbench.command_line.report import report_suite, report_suites
from marginbench.command_line.suite_selection import SuiteSelection
from marginbench.command_line.watch import watch_suite
from marginbench.errors import UserError

NOTHING = {"csv": None, "parquet": None, "tensorboard": None, "figures": None}


@pytest.fixture
def selection(tiny_suite, tmp_path):
    return SuiteSelection(str(tiny_suite), tmp_path / "runs", 1, "full", (), ())


@pytest.fixture
def digits_selection(tmp_path):
    return SuiteSelection("digits-open", tmp_path / "runs", 1, "full", ("softmax",), ())


def test_watch_makes_the_page_anew_when_a_cell_has_ended(selection, tmp_path, monkeypatch):
    pages, looks = [], count()
    watch = import_module("marginbench.command_line.watch")  # the package has a verb of that name
    make_page = watch.make_page

    def made(suite_run):
        failed = make_page(suite_run)
        pages.append((tmp_path / "runs/tiny/report/index.html").read_text())
        return failed

    def sleep(seconds):
        look = next(looks)
        if look == 1:
            (cell, _) = selection.open().runs
            cell.create()
            cell.write_failure("it broke", "")
        if look == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(watch, "make_page", made)
    monkeypatch.setattr(watch.time, "sleep", sleep)
    assert watch_suite(selection, port=0, every=1.0) == 0
    assert len(pages) == 2
    assert "it broke" not in pages[0]
    assert "it broke" in pages[1]


def test_export_writes_what_is_asked_for(selection, tmp_path, capsys):
    assert export_suite(selection, **NOTHING | {"csv": tmp_path / "tables"}) == 0
    assert "tables: 2 files" in capsys.readouterr().out
    assert (tmp_path / "tables" / "results.csv").read_text().count("not started") == 2
    with pytest.raises(UserError, match="nothing to export; allowed: --csv"):
        export_suite(selection, **NOTHING)


def test_a_comparison_with_runs_that_are_not_there_is_refused(selection, tmp_path):
    with pytest.raises(UserError, match=r"--compare .*: there is no 'tiny' in it"):
        report_suite(selection, sections=("account",), compare=tmp_path / "other")


def test_a_report_shows_two_sets_of_runs(selection, tmp_path, capsys):
    (tmp_path / "other" / "tiny").mkdir(parents=True)
    report_suite(selection, sections=("account",), compare=tmp_path / "other")
    page = (tmp_path / "runs/tiny/report/index.html").read_text()
    assert "Before and after" in page
    assert "0 cells finished in both" in page
    assert not (tmp_path / "runs/tiny/report/made-from.json").exists()


def test_several_suites_show_two_sets_of_runs_too(selection, digits_selection, tmp_path):
    both = [selection, digits_selection]
    with pytest.raises(UserError, match=r"--compare .*: there is no 'tiny' in it"):
        report_suites(both, sections=("account",), compare=tmp_path / "other")
    for name in ("tiny", "digits-open"):
        (tmp_path / "other" / name).mkdir(parents=True)
    report_suites(both, sections=("account",), compare=tmp_path / "other")
    page = (tmp_path / "runs/tiny+digits-open/report/index.html").read_text()
    assert "Before and after" in page
