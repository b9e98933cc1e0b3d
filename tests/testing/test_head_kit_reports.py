"""The kit on a name and on a file, and the table that it prints."""

import io
import re

import pytest
from rich.console import Console

from marginbench.errors import UserError
from marginbench.testing import print_checks, report_head

pytestmark = pytest.mark.usefixtures("scratch_registry")

RIGHT = """
from marginbench.heads import CosineHead, register_head
from marginbench.plugins.parameters import NonNegative, Positive


@register_head("squared-margin")
class SquaredMargin(CosineHead):
    def __init__(self, in_features, num_classes, *, m: NonNegative = 0.5, s: Positive = 8.0):
        super().__init__(in_features, num_classes, s=s)
        self.m = m

    def psi(self, cosine):
        return cosine - self.m**2
"""
WRONG = """

@register_head("wrong-margin")
class WrongMargin(SquaredMargin):
    def psi(self, cosine):
        return (cosine.acos() + self.m).cos()
"""


def printed(reports):
    console = Console(file=io.StringIO(), width=100)
    print_checks(reports, console)
    return console.file.getvalue()


def test_a_name_with_parameters():
    (report,) = report_head("am-softmax", {"m": 0.2})
    assert report.passed
    text = printed([report])
    assert "am-softmax (m=0.2)" in text
    assert "22 hold, 0 fail, 0 not applicable" in text
    assert "finite" in text


def test_a_file_with_a_right_and_a_wrong_head(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(RIGHT + WRONG)
    right, wrong = report_head(str(file))
    assert (right.name, wrong.name) == ("squared-margin", "wrong-margin")
    assert right.passed
    assert not wrong.passed
    text = printed([right, wrong])
    assert "squared-margin: 21 hold, 0 fail, 1 not applicable" in text
    assert "failed: edges" in text


def test_a_file_checked_twice_is_still_found(tmp_path):
    file = tmp_path / "again.py"
    file.write_text(RIGHT)
    assert [report.name for report in report_head(str(file))] == ["squared-margin"]
    assert [report.name for report in report_head(str(file))] == ["squared-margin"]


def test_a_file_without_heads(tmp_path):
    file = tmp_path / "empty.py"
    file.write_text("x = 1\n")
    with pytest.raises(UserError, match="registers no head: put @register_head"):
        report_head(str(file))


def test_a_file_that_ends_the_program_proves_nothing(tmp_path):
    file = tmp_path / "ends.py"
    file.write_text("import sys\nsys.exit(0)\n")
    with pytest.raises(UserError, match=r"ends\.py', line 2: it ends the program"):
        report_head(str(file))


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("raise ValueError('no such\\nthing')", "ValueError: no such thing"),
        ("[][1]", "IndexError: list index out of range"),
        ("super().__init__()", r"TypeError: .*missing"),
        ("raise BaseException", "BaseException"),
    ],
)
def test_a_constructor_that_raises_is_one_line(tmp_path, statement, words):
    file = tmp_path / "raising.py"
    file.write_text(RIGHT.replace("        self.m = m\n", f"        {statement}\n"))
    with pytest.raises(UserError) as refusal:
        report_head(str(file))
    message = str(refusal.value)
    assert re.fullmatch(
        rf"head 'squared-margin' cannot be built: raising\.py, line \d+: {words}.*", message
    )


def test_a_constructor_that_raises_at_some_sizes_alone_is_a_failure_there(tmp_path):
    file = tmp_path / "raising.py"
    file.write_text(
        RIGHT.replace("        self.m = m\n", "        self.m = m / (num_classes - 2)\n")
    )
    (report,) = report_head(str(file))
    failed = {result.name: result.detail for result in report.results if not result.passed}
    expected = "with other sizes: raises ZeroDivisionError: division by zero (K = 2, D = 3)"
    assert failed["inputs"] == expected.replace("division", "float division")


@pytest.mark.parametrize(
    ("method", "error"),
    [
        ("psi", "ValueError('a\\nb')"),
        ("loss", "SystemExit(0)"),
        ("scores", "BaseException('x')"),
        ("diagnostics", "KeyError"),
    ],
)
def test_a_method_that_raises_is_a_failure_in_one_line(tmp_path, method, error):
    file = tmp_path / "raising.py"
    file.write_text(RIGHT + f"\n    def {method}(self, *given):\n        raise {error}\n")
    (report,) = report_head(str(file))
    failed = [result.detail for result in report.results if not result.passed]
    assert failed
    assert not any("\n" in detail for detail in failed)


@pytest.mark.parametrize("where", ["__init__", "psi"])
def test_a_head_that_ends_the_program_proves_nothing(tmp_path, where):
    file = tmp_path / "ends.py"
    ending = RIGHT.replace("cosine - self.m**2", "sys.exit(0)")
    if where == "__init__":
        ending = RIGHT.replace("super().__init__", "sys.exit(0) or super().__init__")
    file.write_text("import sys\n" + ending)
    if where == "__init__":
        with pytest.raises(UserError, match=r"ends\.py, line \d+: it ends the program"):
            report_head(str(file))
    else:
        (report,) = report_head(str(file))
        assert not report.passed
        assert "ends the program: SystemExit(0)" in report.results[0].detail


def test_no_such_file_or_head(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        report_head(str(tmp_path / "absent.py"))
    with pytest.raises(UserError, match="unknown head 'arcfce'"):
        report_head("arcfce")


def test_brackets_in_a_detail_are_printed_as_they_are():
    (report,) = report_head("weighted-softmax", {"class_weights": [1.0] * 6})
    assert "class_weights=[1.0, 1.0" in printed([report])
