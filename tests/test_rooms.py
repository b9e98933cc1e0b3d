"""The engine's rooms: each imports only rooms below it, and none imports what plug-ins offer."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CLONE = Path(__file__).parents[1]
PLUG_INS = ("losses", "suites", "reports")
LINT = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]


@pytest.fixture
def copy(tmp_path):
    """The engine and its contract, to be changed."""
    shutil.copy(CLONE / "pyproject.toml", tmp_path)
    leave = shutil.ignore_patterns("__pycache__")
    shutil.copytree(CLONE / "marginbench", tmp_path / "marginbench", ignore=leave)
    return tmp_path


def lint(folder):
    done = subprocess.run(LINT, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("room", "above"),
    [("text", "plugins.registry"), ("evaluation.final", "training.experiment")],
)
def test_an_import_of_a_room_above_is_named(copy, room, above):
    file = copy / "marginbench" / f"{room.replace('.', '/')}.py"
    file.write_text(f"{file.read_text()}\n\nimport marginbench.{above}\n")
    status, output = lint(copy)
    assert status == 1
    assert f"marginbench.{room} -> marginbench.{above}" in output


def test_a_room_that_the_contract_does_not_know_is_named(copy):
    (copy / "marginbench" / "attic.py").write_text('"""A room that is nobody\'s."""\n')
    status, output = lint(copy)
    assert status == 1
    assert "attic" in output


def test_the_engine_imports_no_plug_in_by_name():
    for file in (CLONE / "marginbench").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            elif isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            else:
                continue
            for module in modules:
                plug_in = module.startswith(tuple(f"marginbench.{name}" for name in PLUG_INS))
                assert not plug_in, f"{file}, line {node.lineno}"
