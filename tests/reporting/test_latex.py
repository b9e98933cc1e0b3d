"""LaTeX that compiles as it is, whatever the names hold."""

import shutil
import subprocess

import pandas as pd
import pytest

from marginbench.reporting.sections import Table
from marginbench.reporting.table_files import latex, latex_document

NAMES = [
    "l-softmax m=4", "50 % of a_b & c#d $x$ {y} ~z^2 \\end{document}", "[−0.85, +0.20]", "* a",
    "é ü Ł ñ", "ψ(θ) ≤ λ·θ₁ ± ²", "日本", "smile 😀", '"quoted"', "a–b × c",
]  # fmt: skip
TABLE = Table("names", "Names: 5 % of ψ_y, 日.", pd.DataFrame({"näme_%": NAMES, "error": "1.25"}))


def test_a_character_that_latex_lacks_is_spelt_out():
    text = latex(TABLE)
    assert r"\texttt{U+65E5}\texttt{U+672C}" in text
    assert r"$\psi$($\theta$) $\leq$ $\lambda$$\cdot$$\theta$$_1$ $\pm$ $^2$" in text
    assert "é ü Ł ñ" in text


def test_a_hyphen_before_a_number_is_a_minus_and_others_are_none():
    cells = ["-0.85", "[-0.85, -.20]", "m=-1", "5-6", "l-softmax", "1e-05", "seed-3", "a -2"]
    text = latex(Table("n", "n", pd.DataFrame({"a": cells})))
    rows = [line.removesuffix(r" \\").removeprefix("{}") for line in text.splitlines()[7:15]]
    assert rows == [
        "$-$0.85", "[$-$0.85, $-$.20]", "m=$-$1", "5-6", "l-softmax", "1e-05", "seed-3", "a $-$2",
    ]  # fmt: skip


@pytest.mark.skipif(
    shutil.which("pdflatex") is None,
    reason="no pdflatex: apt-get install texlive-latex-recommended",
)
def test_the_document_of_all_tables_compiles(tmp_path):
    (tmp_path / "names.tex").write_text(latex(TABLE), encoding="utf-8")
    (tmp_path / "tables.tex").write_text(latex_document(["names"]), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    assert (tmp_path / "tables.pdf").read_bytes().startswith(b"%PDF")
