"""Names that are not plain words are shown as they stand, wherever they are shown."""

import json
import re

import pytest
from matplotlib.text import Text

from marginbench.experiments.suites import Suite
from marginbench.reporting.drawing import literal, new_figure
from marginbench.reporting.page import write_report
from marginbench.reporting.sections import Table, chosen_sections
from marginbench.reporting.table_files import latex, markdown
from marginbench.runs.results import results
from marginbench.runs.run_folder import RunFolder
from marginbench.runs.suite_runs import SuiteRun
from marginbench.text import printable_line
from tests.conftest import tiny_cell, train_cell

NAMES = [
    r"$\frac$",
    "$a$",
    "_hidden",
    "costs $5",
    r"a\$b",
    "\x1b[31mred",
    "\u202eleft",
    "<script>alert(1)</script>",
    r"\input{/etc/passwd}",
    "line\nbreak",
]
SETTING = r"\input{/etc/passwd} $\frac$ <script>x</script> " + "\x1b\ud800"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One trained cell whose classes and setting have names of the odd kind."""
    folder = tmp_path_factory.mktemp("names")
    cell = tiny_cell().model_copy(update={"setting": SETTING})
    _, run_folder = train_cell(tiny_cell(), folder)
    result = json.loads((run_folder.path / "result.json").read_text())
    (run_folder.path / "result.json").write_text(json.dumps(result | {"class_names": NAMES}))
    suite = Suite("tested", "a suite", "nothing", 1, "softmax", None, lambda seeds: [cell])
    return SuiteRun(suite, folder, [RunFolder(folder, cell)], 1)


def test_no_section_fails_and_the_page_holds_the_names_as_text(run, tmp_path):
    report = write_report(results(run), run.suite, tmp_path)
    assert report.failed_sections == []
    page = report.page.read_text(encoding="utf-8")
    assert "<script>" not in page
    assert r"\input{/etc/passwd} $\frac$ &lt;script&gt;x&lt;/script&gt; \x1b\ud800" in page
    # The document of all tables puts them in by file names made of letters, and nothing else.
    document = tmp_path / "tables.tex"
    tables = set(tmp_path.glob("*.tex")) - {document}
    put_in = re.findall(r"\\input\{(.*?)\}", document.read_text())
    assert sorted(put_in) == sorted(table.stem for table in tables)
    assert document.read_text().count(r"\input") == len(tables)
    for table in tables:
        assert r"\input" not in table.read_text().replace(r"\textbackslash{}input", "")
    for table in tmp_path.glob("*.md"):
        assert "<script>" not in table.read_text()


@pytest.mark.parametrize("name", ["features", "class-cosine"])
def test_figures_show_the_names_to_the_letter(run, name):
    (section,) = chosen_sections([name])
    figure = section.content(results(run)).figures[0].figure
    figure.draw_without_rendering()
    shown = [
        text._preprocess_math(text.get_text()) for text in figure.findobj(Text) if text.get_text()
    ]
    drawn = {text.lstrip("\u200b") for text, mathematics in shown if mathematics is False}
    assert {printable_line(one) for one in NAMES} <= drawn


def test_a_literal_name_is_in_the_legend_and_no_formula():
    figure, (axis,) = new_figure(1, 1, width=2, height=2)
    for name in NAMES:
        axis.plot([0, 1], [0, 1], label=literal(printable_line(name)))
    legend = figure.legend(*axis.get_legend_handles_labels())
    assert len(legend.get_texts()) == len(NAMES)
    figure.draw_without_rendering()


def test_a_line_has_no_character_that_ends_it():
    assert printable_line("naïve ψ 犬 🐕") == "naïve ψ 犬 🐕"
    assert printable_line("a\x1b[2Jb\r\n\tc\u2028\udc80") == r"a\x1b[2Jb\r\n\tc\u2028\udc80"


def table_of(*cells, caption="c"):
    import pandas as pd

    return Table("t", caption, pd.DataFrame({"name": list(cells)}))


def test_markdown_shows_cells_as_they_stand():
    text = markdown(
        table_of("<b>x</b>", "a|b", "*x*", "[a](b)", "`c` \\", "-2.15 [-2.2, -2.1] *").frame
    )
    assert "&lt;b&gt;x&lt;/b&gt;" in text
    for wanted in (r"a\|b", r"\*x\*", r"[a\](b)", r"\`c\` \\", r"-2.15 [-2.2, -2.1] \*"):
        assert wanted in text


def test_latex_escapes_all_of_its_special_characters_in_cells_and_caption():
    special = r"\input{x} # $y$ % & _ ^ ~"
    escaped = r"\textbackslash{}input\{x\} \# \$y\$ \% \& \_ \textasciicircum{} \textasciitilde{}"
    text = latex(table_of(special, "[1]", caption=special))
    assert rf"\caption{{{escaped}}}" in text
    body = text.split(r"\midrule")[1]
    assert r"\input" not in body.replace(r"\textbackslash ", "\\textbackslash|")
    assert "\n{}[1]" in body
