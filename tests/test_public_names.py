"""The names at the top of the package: there, documented, and loaded only when asked for."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import marginbench

SOURCE = Path(marginbench.__file__).read_text()
HEAVY = {"torch", "pandas", "matplotlib", "pydantic", "sklearn", "numpy", "scipy", "rich"}


def test_the_package_itself_loads_nothing():
    code = (
        "import sys; before = set(sys.modules)\n"
        "import marginbench; dir(marginbench)\n"
        f"print(sorted({HEAVY} & set(sys.modules)))\n"
        "print([n for n in sys.modules if n.startswith('marginbench.')])\n"
        "from marginbench import suite, grid, component, Schedule, Optimiser, section, Table\n"
        "print('torch' in sys.modules, 'pandas' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n[]\nFalse False\n", done.stderr


@pytest.mark.parametrize("name", marginbench.__all__)
def test_a_public_name_is_what_its_module_has(name):
    home = importlib.import_module(marginbench.LAZY_NAMES[name])
    assert getattr(marginbench, name) is getattr(home, name)
    assert name in dir(marginbench)
    assert f"\n``{name}``" in marginbench.__doc__


def test_type_checkers_see_what_is_loaded_when_asked_for():
    (block,) = [node for node in ast.parse(SOURCE).body if isinstance(node, ast.If)]
    seen = {alias.name: node.module for node in block.body for alias in node.names}
    assert seen == marginbench.LAZY_NAMES
    assert sorted(seen) == sorted(marginbench.__all__)


def test_another_name_is_refused_as_by_any_module():
    with pytest.raises(AttributeError, match="module 'marginbench' has no attribute 'sweet'"):
        marginbench.sweet  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'sweet'"):
        exec("from marginbench import sweet")
