"""What a plug-in's section does wrong costs only itself, and what it writes is text."""

from dataclasses import replace

import pandas as pd
import pytest

from marginbench.reporting import sections
from marginbench.reporting.page import write_report
from marginbench.reporting.sections import SectionContent, Table, chosen_sections, section
from marginbench.runs.results import results
from tests.reporting.trained_suite import run_of, suite_of


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
