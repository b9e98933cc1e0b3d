"""The data sources in docs/faces.md are ones that exist, with parameters that they have."""

import ast
import re
from pathlib import Path

import pytest

from marginbench.data import _registry
from marginbench.plugins.parameters import resolve

TEXT = (Path(__file__).parents[2] / "docs" / "faces.md").read_text()
LINES = [
    line
    for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
]


@pytest.mark.parametrize("line", LINES)
def test_components_have_such_parameters(line):
    call = ast.parse(line).body[0].value
    assert call.func.id == "component"
    name = ast.literal_eval(call.args[0])
    given = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    resolve(f"data source {name!r}", _registry.get(name), given)


def test_parameters_spoken_of_exist():
    names = set(_parameters("lfw")) | set(_parameters("faces"))
    spoken = set(re.findall(r"`([a-z]+_[a-z]+)`", TEXT))
    files = {"cfp_fp", "agedb_30", "y_train", "x_train", "lfw_funneled"}
    assert spoken - files <= names


def _parameters(name):
    return resolve(f"data source {name!r}", _registry.get(name), REQUIRED[name])


REQUIRED = {"lfw": {"protocol": "view1"}, "faces": {"name": "x", "verify": ["lfw"]}}
