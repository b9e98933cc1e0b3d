"""The report: whole on a whole grid, honest on a broken one, self-contained always."""

import base64
import re
import shutil
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pandas as pd

from marginbench.reporting.comparison_table import compare
from marginbench.reporting.page import write_report
from marginbench.reporting.page_links import MOST_EMBEDDED, csv_link
from marginbench.reporting.sections import chosen_sections
from marginbench.runs.results import history, results
from tests.reporting.trained_suite import run_of, suite_of


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
    shown = table.set_index("head").loc["am-softmax m=0.35", "difference (points)"]
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


def test_the_history_frame_has_every_row_once(trained):
    folder, cells = trained
    frame = history(results(run_of(folder, cells)))
    assert len(frame) == 4 * len(cells)
    assert not frame.duplicated(["key", "iteration"]).any()
