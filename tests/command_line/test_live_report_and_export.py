"""report --every, export and report --compare, by what they call: no cell is trained."""

import pytest

from marginbench.command_line import live_report
from marginbench.command_line.export import export_suite
from marginbench.command_line.report import report_suite, report_suites
from marginbench.command_line.suite_selection import SuiteSelection
from marginbench.errors import UserError
from tests.runs.made_runs import write_run

NOTHING = {"csv": None, "parquet": None, "tensorboard": None, "figures": None}


@pytest.fixture
def selection(tiny_suite, tmp_path):
    return SuiteSelection(str(tiny_suite), tmp_path / "runs", 1, "full", (), ())


@pytest.fixture
def digits_selection(tmp_path):
    return SuiteSelection("digits-open", tmp_path / "runs", 1, "full", ("softmax",), ())


def page_of(tmp_path):
    return (tmp_path / "runs/tiny/report/index.html").read_text()


@pytest.fixture
def looks(selection, tmp_path, monkeypatch):
    """Call ``looks(then)``: ``then(number, cells)`` in place of each pause; the pages so far."""
    pages = []

    def begin(then):
        def sleep(seconds):
            assert seconds >= 7
            pages.append(page_of(tmp_path))
            then(len(pages), selection.open().runs)

        monkeypatch.setattr(live_report.time, "sleep", sleep)
        return pages

    return begin


def test_a_report_is_written_again_when_a_cell_has_ended_and_ends_with_the_last(
    selection, looks, tmp_path, capsys
):
    def then(number, cells):
        if number > 1:
            write_run(cells[number - 2], 0.1)

    pages = looks(then)
    assert report_suite(selection, sections=("account",), every=7.0) == 0
    assert ["0 of 2 cells finished" in page for page in pages] == [True, True, False]
    assert "1 of 2 cells finished" in pages[-1]
    assert all('<meta http-equiv="refresh" content="7">' in page for page in pages)
    assert pages[0] == pages[1]
    assert 'http-equiv="refresh"' not in page_of(tmp_path)
    assert "2 of 2 cells done" in page_of(tmp_path)
    assert capsys.readouterr().out.count("Ctrl-C ends this") == 2


def test_ctrl_c_leaves_a_whole_page_that_stays_as_it_is(selection, looks, tmp_path):
    def then(number, cells):
        if number == 1:
            cells[0].create()
            cells[0].write_failure("it broke", "")
        if number == 2:
            raise KeyboardInterrupt

    pages = looks(then)
    assert report_suite(selection, sections=("account",), every=7.0) == 0
    assert "it broke" not in pages[0]
    assert "it broke" in pages[1]
    assert page_of(tmp_path) == pages[1].replace('<meta http-equiv="refresh" content="7">', "")


def test_ctrl_c_before_the_first_page_leaves_none(selection, tmp_path, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(live_report, "in_parts", interrupted)
    assert report_suite(selection, sections=("account",), every=7.0) == 0
    assert not (tmp_path / "runs/tiny/report/index.html").exists()


def test_watch_is_refused_with_what_to_use(marginbench):
    done = marginbench("watch", "digits")
    assert done.returncode == 2
    assert "Use `marginbench report SUITE --every 60`" in done.stderr


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
    with pytest.raises(UserError, match="--every is not allowed with several suites"):
        report_suites(both, sections=(), every=7.0)
    with pytest.raises(UserError, match=r"--compare .*: there is no 'tiny' in it"):
        report_suites(both, sections=("account",), compare=tmp_path / "other")
    for name in ("tiny", "digits-open"):
        (tmp_path / "other" / name).mkdir(parents=True)
    report_suites(both, sections=("account",), compare=tmp_path / "other")
    page = (tmp_path / "runs/tiny+digits-open/report/index.html").read_text()
    assert "Before and after" in page
