"""What the README says, done as it says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.command_line.conftest import COMMAND

README = (Path(__file__).parents[1] / "README.md").read_text()
CODE = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
CALLS = re.findall(r"^    (marginbench .*\.py.*)$", README, flags=re.MULTILINE)


def block_with(word):
    (block,) = [code for code in CODE if word in code]
    return block


def call(folder, *arguments):
    done = subprocess.run(
        [*COMMAND, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "my_suite.py").write_text(block_with("@suite"))
    (tmp_path / "my_head.py").write_text(block_with("@register_head"))
    return tmp_path


def test_the_head_is_short():
    lines = block_with("@register_head").strip().splitlines()
    assert len(lines) < 25


def test_the_commands_with_files_are_those_tested_here():
    assert CALLS == [
        "marginbench run my_suite.py",
        "marginbench check-head my_head.py",
        "marginbench run digits --plugin my_head.py --head wide-angle:m=0.3",
    ]


def test_the_head_keeps_its_contract(folder):
    output = call(folder, "check-head", "my_head.py")
    assert "0 fail" in output


def test_the_suite_and_the_head_make_rows(folder):
    suite = folder / "my_suite.py"
    suite.write_text(
        suite.read_text()
        .replace("iterations=250", "iterations=30")
        .replace("(166, 208)", "(20, 25)")
    )
    head = ["--plugin", "my_head.py", "--head", "wide-angle:m=0.3"]
    output = call(folder, "run", "my_suite.py", "--seeds", "1", *head)
    for row in ("softmax", "am-softmax m=0.3 s=30", "wide-angle m=0.3"):
        assert row in output
    assert "wide-angle" in call(folder, "run", "digits", "--dry-run", *head)


def test_the_python_lines_run(tmp_path):
    features, labels = torch.randn(4, 64), torch.tensor([0, 1, 2, 3])
    names = {"features": features, "labels": labels}
    exec(block_with("build_head"), names)
    assert names["predicted"].shape == (4,)
    code = block_with("one row a cell")
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_pictures_and_options_of_the_readme_exist():
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", README):
        assert (Path(__file__).parents[1] / picture).is_file()
    others = re.compile(r"^    torchrun .*? -m ", flags=re.MULTILINE)
    told = set(re.findall(r"`?(--[a-z-]+)", others.sub("", README)))
    known = set()
    for command in ("run", "report", "heads", "submit", "status"):
        known |= set(re.findall(r"--[a-z-]+", call(Path.cwd(), command, "--help")))
    assert told <= known
