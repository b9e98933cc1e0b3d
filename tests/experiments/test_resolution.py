"""Parts resolved once: by import, or from what another process has kept."""

import json
import subprocess
import sys

import pytest

from marginbench.errors import UserError
from marginbench.experiments.cell_fields import Schedule
from marginbench.experiments.cells import make_cell
from marginbench.experiments.grids import every_other_head
from marginbench.experiments.resolution import Resolver, resolve_cell
from marginbench.experiments.search import Search
from marginbench.experiments.search_plan import _trial
from marginbench.heads import head_class, register_head
from marginbench.plugins.component import Component
from tests.conftest import built_in_heads


def declared(head="softmax", data=None, **parameters):
    return make_cell(
        data=data or Component(name="digits", parameters={"left_out": [7, 8, 9]}),
        backbone=Component(name="small", parameters={"features": 2}),
        head=Component(name=head, parameters=parameters),
        schedule=Schedule(iterations=4, batch_size=8, evaluations=1),
    )


def handed_over(resolver):
    return Resolver(json.loads(json.dumps(resolver.found())))


def test_keys_are_the_same_from_what_was_kept():
    first = Resolver()
    cells = [declared(name) for name in built_in_heads()]
    resolved = [first(cell) for cell in cells]
    again = handed_over(first)
    assert [again(cell).key for cell in cells] == [cell.key for cell in resolved]
    assert [resolve_cell(cell).key for cell in cells] == [cell.key for cell in resolved]


def test_a_rate_per_iteration_that_is_not_given_follows_the_length_of_the_run():
    first = Resolver()
    for resolve in (first, handed_over(first)):
        for iterations in (4, 40):
            cell = declared("l-softmax", m=2)
            schedule = cell.schedule.model_copy(update={"iterations": iterations})
            parameters = resolve(cell.model_copy(update={"schedule": schedule})).head.parameters
            assert parameters["lambda_gamma"] == 0.75 / iterations
            spelt = cell.model_copy(
                update={"head": Component(name="l-softmax", parameters=parameters)}
            )
            assert resolve(spelt).head.parameters == parameters


def test_a_head_that_derives_from_an_annealed_one_need_not_have_its_parameters(scratch_registry):
    @register_head("annealed-at-a-fixed-rate")
    class Fixed(head_class("l-softmax")):
        def __init__(self, in_features: int, num_classes: int, *, m: int = 2) -> None:
            super().__init__(in_features, num_classes, m=m, lambda_base=0.0)

    cell = Resolver()(declared("annealed-at-a-fixed-rate"))
    assert "lambda_gamma" not in cell.head.parameters
    trial = _trial(cell, {"head.m": 3}, Search(trials=2, length=0.5), Resolver())
    assert trial.short_head.parameters == {**cell.head.parameters, "m": 3}


def test_the_heads_of_a_wildcard_are_kept():
    wildcard = every_other_head(s=7.0)
    cells = [declared(), declared().model_copy(update={"head": wildcard})]
    first = Resolver()
    expanded = first.with_other_heads(cells)
    assert len(expanded) > 10
    assert handed_over(first).with_other_heads(cells) == expanded


def test_what_is_kept_is_resolved_without_torch():
    first = Resolver()
    key = first(declared("arcface", m=0.3)).key
    code = (
        "import json, sys\n"
        "from marginbench.experiments.cells import cell_from_json\n"
        "from marginbench.experiments.resolution import Resolver\n"
        "found, cell = map(json.loads, sys.stdin)\n"
        "print(Resolver(found)(cell_from_json(json.dumps(cell))).key, 'torch' in sys.modules)"
    )
    cell = json.loads(declared("arcface", m=0.3).to_json())
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=f"{json.dumps(first.found())}\n{json.dumps(cell)}\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{key} False\n"


def test_values_that_differ_in_type_are_not_taken_for_one_another():
    resolver = Resolver()
    resolver(declared("arcface", m=0.5, s=4))
    with pytest.raises(UserError, match="m = True"):
        resolver(declared("arcface", m=True))
    with pytest.raises(UserError, match="nan"):
        resolver(declared("arcface", m=float("nan")))


def test_parameters_that_files_complete_are_not_kept(tmp_path, monkeypatch):
    import numpy as np

    monkeypatch.setenv("MARGINBENCH_DATA", str(tmp_path))
    monkeypatch.setenv("MARGINBENCH_CACHE", str(tmp_path / "cache"))
    images, labels = np.zeros((4, 8, 8), np.uint8), np.array([0, 1, 0, 1])
    np.savez(tmp_path / "own.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    resolver = Resolver()
    cell = resolver(declared(data=Component(name="npz", parameters={"name": "own.npz"})))
    assert cell.data.parameters["content"]
    assert [json.loads(text)[0] for text in resolver.found()] == ["backbone", "head"]
