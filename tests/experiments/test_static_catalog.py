"""Parameters read off the source equal those of the imported classes, and torch stays unloaded."""

import subprocess
import sys

import pytest

from marginbench.backbones import _registry as backbones
from marginbench.data import _registry as data_sources
from marginbench.errors import UserError
from marginbench.experiments.cells import Schedule, make_cell, resolve_cell
from marginbench.experiments.static_catalog import (
    LightResolver,
    parameter_models,
    resolve_parameters,
)
from marginbench.heads import _registry as heads
from marginbench.plugins.component import Component
from marginbench.plugins.parameters import parameter_model

REGISTRIES = {"data": data_sources, "backbone": backbones, "head": heads}


@pytest.mark.parametrize("field", REGISTRIES)
def test_everything_registered_is_read_as_it_is_imported(field):
    static = parameter_models(field)
    registry = REGISTRIES[field]
    own = {name: entry for name, entry in registry if not entry_is_from_a_plugin(entry)}
    assert own
    for name, entry in own.items():
        imported = parameter_model(f"{registry.kind} {name!r}", entry)
        assert repr(static[name].model_fields) == repr(imported.model_fields)
        assert static[name].model_config == imported.model_config


def entry_is_from_a_plugin(entry):
    return not entry.__module__.startswith("marginbench.")


def test_keys_are_the_same_either_way():
    resolver = LightResolver()
    for name, _ in heads:
        if entry_is_from_a_plugin(heads.get(name)):
            continue
        cell = make_cell(
            data=Component(name="digits", parameters={"left_out": [7, 8, 9]}),
            backbone=Component(name="small", parameters={"features": 2}),
            head=Component(name=name),
            schedule=Schedule(iterations=4, batch_size=8, evaluations=1),
        )
        assert resolver(cell) == resolve_cell(cell)
        assert resolver(cell).key == resolve_cell(cell).key


@pytest.mark.parametrize(
    ("field", "name", "given"),
    [
        ("head", "arcfac", {}),
        ("head", "arcface", {"m": 9}),
        ("head", "arcface", {"q": 1}),
        ("backbone", "smal", {}),
        ("data", "digits", {"left_out": [10]}),
    ],
)
def test_refusals_are_the_same_either_way(field, name, given):
    from marginbench.backbones import resolve_backbone_parameters
    from marginbench.data import resolve_data_parameters
    from marginbench.heads import resolve_head_parameters

    by_import = {
        "data": resolve_data_parameters,
        "backbone": resolve_backbone_parameters,
        "head": resolve_head_parameters,
    }[field]
    with pytest.raises(UserError) as imported:
        by_import(name, given)
    with pytest.raises(UserError) as static:
        resolve_parameters(field, name, given)
    if entries_of_tests(field):
        assert str(static.value).split(";")[0] == str(imported.value).split(";")[0]
    else:
        assert str(static.value) == str(imported.value)


def entries_of_tests(field):
    """Whether other tests have registered entries that only importing tells of."""
    return any(entry_is_from_a_plugin(entry) for _, entry in REGISTRIES[field])


PLUGIN_HEAD = """
from typing import Annotated, Literal

import torch
from pydantic import Field

from marginbench import CosineHead, register_head
from marginbench.plugins.parameters import Positive

Half = Annotated[float, Field(ge=0, le=0.5)]
PAIR = (1, 2)


class Between(CosineHead):
    def __init__(self, in_features, num_classes, *, s: Positive = 2.0 * 4, half: Half = 0.25,
                 kind: Literal["a", "b"] = "b", pair: tuple[int, ...] = PAIR,
                 maybe: int | None = None):
        super().__init__(in_features, num_classes, s=s)

    def psi(self, cosine):
        return cosine


@register_head("my-inherited")
class Mine(Between):
    pass
"""

COMPUTED_HEAD = PLUGIN_HEAD.replace(
    "maybe: int | None = None", "maybe: int = torch.ones(1).numel()"
)


def in_new_process(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


PRINT = (
    "import sys\n"
    "from marginbench.experiments.static_catalog import load_plugin_lightly, resolve_parameters\n"
    "load_plugin_lightly(sys.argv[1])\n"
    "print(resolve_parameters('head', 'my-inherited', {'half': 0.5}), 'torch' in sys.modules)"
)


def test_a_plugin_head_is_read_without_running_it(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(PLUGIN_HEAD)
    done = in_new_process(PRINT, file)
    expected = {"s": 8.0, "half": 0.5, "kind": "b", "pair": (1, 2), "maybe": None}
    assert done.stdout == f"{expected} False\n", done.stderr


def test_what_cannot_be_read_is_imported(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(COMPUTED_HEAD)
    done = in_new_process(PRINT, file)
    expected = {"s": 8.0, "half": 0.5, "kind": "b", "pair": (1, 2), "maybe": 1}
    assert done.stdout == f"{expected} True\n", done.stderr


def test_a_plugin_name_that_is_taken_is_refused(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(PLUGIN_HEAD.replace("my-inherited", "arcface"))
    done = in_new_process(PRINT.replace("my-inherited", "arcface"), file)
    assert "'arcface' is registered twice" in done.stderr
