"""Regularisers of others: in an installed package, through its entry point."""

from importlib.metadata import EntryPoint

import pytest
import torch

from marginbench import regularisers
from marginbench.experiments.grids import component
from marginbench.experiments.resolution import resolve_cell
from marginbench.plugins import loading, registrations
from marginbench.regularisers import LayerShape, build_regulariser
from tests.conftest import tiny_cell

MODULE = '''
from marginbench import Regulariser, register_regulariser
from marginbench.plugins.parameters import Positive


@register_regulariser("outside")
class Outside(Regulariser):
    """The mean square of a layer's weights, times a factor."""

    def __init__(self, layers, *, factor: Positive = 2.0):
        super().__init__(layers)
        self.factor = factor

    def penalty(self, filters, layer):
        return self.factor * filters.square().mean()
'''


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package that names its module under the group of regularisers."""
    (tmp_path / "outside_package.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    regularisers.regulariser_names()
    for attribute in ("_entries", "_origins"):
        copy = dict(getattr(regularisers._registry, attribute))
        monkeypatch.setattr(regularisers._registry, attribute, copy)
    group = "marginbench.regularisers"
    point = EntryPoint(name="outside", value="outside_package", group=group)
    for module in (loading, registrations):
        own = module.entry_points_of
        monkeypatch.setattr(
            module,
            "entry_points_of",
            lambda wanted, own=own: (point,) if wanted == group else own(wanted),
        )
    loading.load_group.__wrapped__(group)


def test_a_regulariser_of_an_installed_package_is_found(installed):
    outside = build_regulariser("outside", [LayerShape("layer", 2, 3)], factor=3.0)
    assert float(outside([torch.full((2, 3), 2.0)])) == pytest.approx(12)
    module = registrations.defining_module("regulariser", "outside")
    assert module.name == "outside_package"
    cell = tiny_cell().model_copy(update={"regulariser": component("outside")})
    assert resolve_cell(cell).regulariser.parameters == {"factor": 2.0}


def test_the_built_in_ones_are_found_in_the_room_without_importing_it():
    for name, file in (("mhe", "mhe"), ("srip", "orthogonality"), ("comhe", "comhe")):
        module = registrations.defining_module("regulariser", name)
        assert module.name == f"marginbench.regularisers.{file}"
