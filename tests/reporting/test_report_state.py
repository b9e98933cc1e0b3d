"""A report is left alone while it would come out the same, and made anew as soon as not."""

import dataclasses

import pytest

from marginbench.experiments.suites import Suite
from marginbench.reporting import report_state
from marginbench.reporting.report_state import (
    STATE_FILE,
    PrintedTable,
    fingerprint,
    forget,
    remember,
    still_good,
)
from marginbench.runs.cell_status import CellStatus, State
from marginbench.runs.code_version import code_version
from marginbench.runs.run_folder import RunFolder
from marginbench.runs.suite_runs import SuiteRun
from tests.conftest import tiny_cell

TABLE = PrintedTable("tiny: errors", ["head", "gap"], [["softmax, plain", "1.20"]])


@pytest.fixture
def run(tmp_path):
    cells = [tiny_cell(seed=seed) for seed in (0, 1)]
    suite = Suite("tested", "a suite", "nothing", 2, "softmax", None, lambda seeds: cells)
    folders = [RunFolder(tmp_path / "runs", cell) for cell in cells]
    for folder in folders:
        folder.create()
        (folder.path / "history.jsonl").write_text("rows")
    return SuiteRun(suite, tmp_path / "runs", folders, 2)


def of(run, state=State.STOPPED, iteration=3, sections=None):
    return fingerprint(run, [CellStatus(state, "", iteration)] * len(run.runs), sections)


def test_the_same_inputs_give_the_same_fingerprint(run):
    assert of(run) == of(run)


@pytest.mark.parametrize(
    "change",
    [
        {"state": State.FAILED},
        {"iteration": 4},
        {"sections": ["comparison"]},
    ],
)
def test_a_cells_state_and_the_sections_count(run, change):
    assert of(run, **change) != of(run)


def test_a_cells_files_count_but_its_checkpoint_does_not(run):
    before = of(run)
    (run.runs[0].path / "checkpoint.pt").write_bytes(b"weights")
    assert of(run) == before
    (run.runs[0].path / "history.jsonl").write_text("other rows")
    assert of(run) != before


def test_the_suite_and_the_choice_of_cells_count(run):
    fewer = dataclasses.replace(run, runs=run.runs[:1])
    other = dataclasses.replace(run, suite=dataclasses.replace(run.suite, baseline="hinge"))
    assert len({of(run), of(fewer), of(other)}) == 3


def test_plugin_files_and_what_stands_beside_them_count(run, tmp_path, monkeypatch):
    plugin = tmp_path / "my_section.py"
    plugin.write_text("a = 1")
    without = of(run)
    monkeypatch.setattr(report_state, "loaded_plugin_files", lambda: [plugin])
    prints = {without, of(run)}
    plugin.write_text("a = 2")
    prints.add(of(run))
    (tmp_path / "imported_by_it.py").write_text("b = 1")
    prints.add(of(run))
    assert len(prints) == 4


def test_the_code_that_draws_and_its_libraries_count(run, monkeypatch):
    before = of(run)
    version = code_version(reports=True)
    assert any(name.endswith("reports/comparison.py") for name in version["files"])
    assert "matplotlib" in version["packages"]
    assert not any("comparison.py" in name for name in code_version()["files"])
    newer = version | {"packages": version["packages"] | {"matplotlib": "99"}}
    monkeypatch.setattr(report_state, "code_version", lambda reports: newer)
    assert of(run) != before


@pytest.fixture
def report(tmp_path):
    folder = tmp_path / "report"
    folder.mkdir()
    (folder / "index.html").write_text("page")
    (folder / "comparison-tiny.csv").write_text('head,gap\n"softmax, plain",1.20\n')
    remember(folder, "abc", {"comparison-tiny": "tiny: errors"})
    return folder


def test_an_unchanged_report_gives_its_tables_back(report):
    assert still_good(report, "abc") == [TABLE]


def test_other_inputs_or_a_report_in_the_making_are_not_good(report):
    assert still_good(report, "abd") is None
    forget(report)
    assert still_good(report, "abc") is None


@pytest.mark.parametrize("name", ["index.html", "comparison-tiny.csv", STATE_FILE])
@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_text("{")])
def test_a_missing_or_changed_file_is_not_good(report, name, damage):
    damage(report / name)
    assert still_good(report, "abc") is None
