"""The report: whole on a whole grid, honest on a broken one, self-contained always."""

import base64
import re
import shutil
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser

import pandas as pd
import pytest

from marginbench.experiments.cell_fields import Optimiser
from marginbench.experiments.grids import component, grid
from marginbench.experiments.suites import Suite
from marginbench.reporting import sections
from marginbench.reporting.comparison_table import compare
from marginbench.reporting.page import write_report
from marginbench.reporting.page_links import MOST_EMBEDDED, csv_link
from marginbench.reporting.sections import SectionContent, Table, chosen_sections, section
from marginbench.runs.conditions import row_labels
from marginbench.runs.results import history, results
from marginbench.runs.run_folder import RunFolder
from marginbench.runs.suite_runs import SuiteRun
from tests.conftest import tiny_cell, train_cell

HEADS = [
    ("softmax", {}),
    ("l-softmax", {"m": 2}),
    ("l-softmax", {"m": 3}),
    ("am-softmax", {"s": 8.0}),
]


def suite_of(cells, sections=None):
    return Suite("tested", "a suite", "nothing", 2, "softmax", sections, lambda seeds: cells)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Four heads with two seeds, closed set with 2-D features, and two heads open set."""
    folder = tmp_path_factory.mktemp("trained")
    open_set = component("digits", left_out=[6, 7, 8, 9])
    cells = [
        tiny_cell(h, seed=s, **p).model_copy(update={"setting": "closed"})
        for h, p in HEADS
        for s in (0, 1)
    ]
    cells += [
        tiny_cell(h, seed=s, data=open_set).model_copy(update={"setting": "open"})
        for h in ("softmax", "contrastive")
        for s in (0, 1)
    ]
    gentle = Optimiser(learning_rate=0.03)
    cells = [cell.model_copy(update={"optimiser": gentle}) for cell in cells]
    for cell in cells:
        result, _ = train_cell(cell, folder)
        assert result["outcome"] == "finished", result["reason"]
    return folder, cells


def run_of(folder, cells):
    return SuiteRun(suite_of(cells), folder, [RunFolder(folder, c) for c in cells], len(cells))


class Page(HTMLParser):
    """Collects the links and sources of a page."""

    def __init__(self, text):
        super().__init__()
        self.sources, self.links, self.ids = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.sources += [values["src"]] if "src" in values else []
        self.links += [values["href"]] if "href" in values else []
        self.ids |= {values["id"]} if "id" in values else set()


@pytest.fixture(scope="session")
def written(trained, tmp_path_factory):
    folder, cells = trained
    frame = results(run_of(folder, cells))
    out = tmp_path_factory.mktemp("report")
    return write_report(frame, suite_of(cells), out), out


def test_no_section_fails_and_all_expected_ones_are_there(written):
    report, _ = written
    assert report.failed_sections == []
    page = Page(report.page.read_text())
    wanted = {"comparison", "overfitting", "features", "class-cosine", "verification", "account"}
    assert wanted | {"margins"} <= page.ids


def test_the_page_is_self_contained(written):
    report, out = written
    text = report.page.read_text()
    page = Page(text)
    assert len(page.sources) >= 7
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    # What its scripts do is seen in a browser: tests/reporting/test_browser.py.
    without_scripts = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert not re.search(r"(https?:)?//", re.sub(r"base64,[^\"]*", "", without_scripts))
    for link in page.links:
        if link.startswith("data:"):
            continue
        if link.startswith("#"):
            assert link[1:] in page.ids
        else:
            assert (out / link).is_file()


def test_tables_and_data_are_in_a_page_that_is_sent_alone(written):
    report, out = written
    links = re.findall(
        r'href="data:text/csv[^,]*,([^"]*)" download="([^"]*)"', report.page.read_text()
    )
    assert {f"{table.name}.csv" for table in report.tables} <= {name for _, name in links}
    assert any(name.endswith("-data.csv") for _, name in links)
    for content, name in links:
        assert base64.b64decode(content) == (out / name).read_bytes()


def test_a_large_file_is_linked_and_not_in_the_page():
    assert csv_link("a.csv", "x" * MOST_EMBEDDED).startswith("data:text/csv;")
    assert csv_link("a.csv", "x" * (MOST_EMBEDDED + 1)) == "a.csv"


def test_every_figure_has_its_data(written):
    _, out = written
    pictures = [path.stem for path in out.glob("*.png")]
    assert len(pictures) >= 7
    for name in pictures:
        assert len(pd.read_csv(out / f"{name}-data.csv")) > 0


def test_titles_set_after_the_figure_is_made_are_of_a_papers_size(trained):
    (features,) = chosen_sections(["features"])
    for figure in features.content(results(run_of(*trained))).figures:
        sizes = {axis.title.get_fontsize() for axis in figure.figure.axes if axis.get_title()}
        assert sizes == {8.0}


def test_every_table_and_figure_is_there_in_every_format(written):
    report, out = written
    for table in report.tables:
        frame = pd.read_csv(out / f"{table.name}.csv", dtype=str, keep_default_na=False)
        assert frame.shape == table.frame.shape
        markdown = (out / f"{table.name}.md").read_text().splitlines()
        assert len(markdown) == len(frame) + 2
        latex = (out / f"{table.name}.tex").read_text()
        assert latex.count(r"\\") == len(frame) + 1
        assert "±" not in latex
    assert list(out.glob("*.png"))
    for png in out.glob("*.png"):
        assert png.read_bytes().startswith(b"\x89PNG")
        ElementTree.parse(png.with_suffix(".svg"))


def test_the_comparison_has_a_row_for_every_head_and_m(written):
    report, _ = written
    table = next(t.frame for t in report.tables if t.name == "comparison-closed")
    assert list(table["head"]) == [
        *("softmax", "l-softmax m=2", "l-softmax m=3", "am-softmax m=0.35")
    ]
    assert set(table["seeds"]) == {"2"}
    assert table["verdict"].iloc[0] == "baseline"


def test_the_numbers_are_those_of_the_results(trained, written):
    folder, cells = trained
    frame = results(run_of(folder, cells))
    rows = frame[(frame["setting"] == "closed") & (frame["head"] == "am-softmax")]
    errors = 100 * rows["test_error"].astype(float)
    table = next(t.frame for t in written[0].tables if t.name == "comparison-closed")
    shown = table.set_index("head").loc["am-softmax m=0.35", "test error %"]
    assert shown == f"{errors.mean():.2f} ± {errors.std(ddof=1):.2f}"
    baseline = frame[(frame["setting"] == "closed") & (frame["head"] == "softmax")]
    difference = (errors.to_numpy() - 100 * baseline["test_error"].to_numpy(float)).mean()
    shown = table.set_index("head").loc["am-softmax m=0.35", "difference"]
    assert shown.startswith(f"{difference:+.2f} [")


def test_a_row_has_the_errors_of_its_finished_runs():
    frame = pd.DataFrame(
        [
            ("softmax", True, 0, 0.10, "done"),
            ("softmax", True, 1, 0.20, "done"),
            ("softmax", True, 2, 0.90, "diverged"),
            ("other", False, 0, 0.08, "done"),
            ("other", False, 2, 0.05, "done"),
            ("other", False, 1, 0.16, "done"),
        ],
        columns=["label", "is_baseline", "seed", "test_error", "state"],
    ).assign(train_error=0.0)
    softmax, other = compare(frame)
    assert softmax.seed_count == "2 of 3, 1 diverged"
    assert softmax.test_errors == [0.10, 0.20]
    assert other.test_errors == [0.08, 0.16, 0.05]
    assert other.seed_count == "3"


def test_a_grid_in_every_state_is_shown_and_counted(trained, tmp_path):
    folder, cells = trained
    shutil.copytree(folder, tmp_path / "runs")
    run = run_of(tmp_path / "runs", cells)
    shutil.rmtree(run.runs[0].path)
    (run.runs[1].path / "history.jsonl").write_text("{")
    (run.runs[2].path / "result.json").unlink()
    (run.runs[3].path / "result.json").unlink()
    run.runs[3].write_failure("it broke | badly", "")
    diverged = run.runs[4].path / "result.json"
    diverged.write_text(
        diverged.read_text()
        .replace('"finished"', '"diverged"')
        .replace('"reason": ""', '"reason": "the loss was not finite"')
    )
    report = write_report(results(run), suite_of(cells), tmp_path / "report")
    assert report.failed_sections == []
    page = report.page.read_text()
    assert "7 of 12 cells done, 1 diverged, 1 failed, 1 damaged, 1 stopped, 1 not started" in page
    for word in ("it broke | badly", "the loss was not finite", "line 1 is not JSON"):
        assert word in page
    table = next(t.frame for t in report.tables if t.name == "comparison-closed")
    assert table["seeds"].tolist()[0] == "0 of 2, 1 not started, 1 damaged"
    assert "No finished baseline" in page


def test_an_empty_grid_still_makes_a_page(trained, tmp_path):
    _, cells = trained
    report = write_report(
        results(run_of(tmp_path / "nothing", cells)), suite_of(cells), tmp_path / "report"
    )
    assert report.failed_sections == []
    assert "0 of 12 cells done, 12 not started" in report.page.read_text()


@pytest.fixture
def plugin_sections(monkeypatch):
    """Sections registered in a test are gone after it."""
    chosen_sections()
    registry = sections._registry
    for name in ("_entries", "_origins"):
        monkeypatch.setattr(registry, name, dict(getattr(registry, name)))


@pytest.mark.usefixtures("plugin_sections")
def test_a_section_that_fails_costs_only_itself(trained, tmp_path):
    @section("failing", title="Failing", order=1)
    def failing(frame):
        raise ZeroDivisionError("a plug-in's fault")

    folder, cells = trained
    suite = suite_of(cells, ("failing", "account"))
    report = write_report(results(run_of(folder, cells)), suite, tmp_path)
    assert report.failed_sections == [("failing", "ZeroDivisionError: a plug-in's fault")]
    page = report.page.read_text()
    assert "a plug-in&#39;s fault" in page
    assert "12 of 12 cells done" in page


@pytest.mark.usefixtures("plugin_sections")
def test_a_section_that_ends_the_program_costs_only_itself(trained, tmp_path):
    @section("ending", title="Ending", order=1)
    def ending(frame):
        raise SystemExit(0)

    folder, cells = trained
    suite = replace(suite_of(cells, ("ending", "account")), description="half \ud800")
    report = write_report(results(run_of(folder, cells)), suite, tmp_path)
    assert report.failed_sections == [("ending", "SystemExit: 0")]
    assert "half �" in report.page.read_text(encoding="utf-8")


@pytest.mark.usefixtures("plugin_sections")
def test_what_a_plugin_writes_is_escaped(tmp_path, trained):
    @section("hostile", title="<b>Title</b>", order=2)
    def hostile(frame):
        table = pd.DataFrame({"a|b": ["<script>alert(1)</script>", "x|y & 50 % _"]})
        return SectionContent(text=["<i>"], tables=[Table("hostile", "a & b", table)])

    folder, cells = trained
    report = write_report(results(run_of(folder, cells)), suite_of(cells, ("hostile",)), tmp_path)
    assert report.failed_sections == []
    assert "<script>alert" not in report.page.read_text()
    assert "<script>" not in (tmp_path / "hostile.md").read_text()
    assert r"x\|y &amp; 50 % \_" in (tmp_path / "hostile.md").read_text()
    assert r"a\|b" in (tmp_path / "hostile.md").read_text()
    assert r"50 \% \_" in (tmp_path / "hostile.tex").read_text()


def test_the_history_frame_has_every_row_once(trained):
    folder, cells = trained
    frame = history(results(run_of(folder, cells)))
    assert len(frame) == 4 * len(cells)
    assert not frame.duplicated(["key", "iteration"]).any()


def test_labels_tell_rows_of_one_head_apart_and_no_more():
    cells = grid(
        data="digits",
        backbone="small",
        head=[
            "softmax",
            component("hinge", norm="L1"),
            component("hinge", norm="L2"),
            component("arcface", m=0.3, s=10.0),
            component("am-softmax", m=0.3, s=10.0),
            component("am-softmax", m=0.3, s=20.0),
        ],
        schedule=tiny_cell().schedule,
    )
    assert row_labels(cells) == [
        "softmax",
        "hinge norm=L1",
        "hinge norm=L2",
        "arcface m=0.3",
        "am-softmax m=0.3 s=10",
        "am-softmax m=0.3 s=20",
    ]
