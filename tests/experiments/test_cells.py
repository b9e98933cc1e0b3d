"""Cells: keys that mean the experiment and nothing else, and refusals that name the field."""

import csv
import json
import pickle
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field

from marginbench.errors import UserError
from marginbench.experiments.cell_fields import Schedule
from marginbench.experiments.cell_keys import ADDED_LATER
from marginbench.experiments.cells import cell_from_json, make_cell, resolved_component
from marginbench.experiments.resolution import Resolver, resolve_cell
from marginbench.experiments.suites import find_suite
from marginbench.plugins.component import Component
from marginbench.plugins.loading import load_plugin_file
from marginbench.plugins.parameters import (
    AddedLater,
    FormerName,
    parameter_model,
    resolve_with,
)
from tests.conftest import tiny_cell

PUBLISHED = Path(__file__).parents[2] / "reports" / "published"

SCHEDULE = Schedule(iterations=10, batch_size=8, evaluations=2)


def cell_of(**changes):
    fields = {
        "data": Component(name="digits"),
        "backbone": Component(name="small"),
        "head": Component(name="arcface"),
        "schedule": SCHEDULE,
    }
    return resolve_cell(make_cell(**(fields | changes)))


def test_a_copy_has_a_key_of_its_own():
    cell = cell_of()
    assert cell.key != cell.comparison
    other = cell.model_copy(update={"seed": 5})
    assert other.key == cell_of(seed=5).key != cell.key
    assert other.comparison == cell.comparison
    longer = cell.model_copy(update={"schedule": SCHEDULE.model_copy(update={"iterations": 20})})
    assert longer.comparison != cell.comparison
    assert cell.model_copy() == cell == pickle.loads(pickle.dumps(cell))


def test_a_stored_cell_is_known_by_its_values():
    cell = cell_of()
    assert cell.is_stored_as(cell.to_json())
    assert cell.is_stored_as(json.dumps(json.loads(cell.to_json())))
    assert not cell.is_stored_as(cell_of(seed=5).to_json())
    assert not cell.is_stored_as(cell.to_json().replace('"seed": 0', '"seed": false'))
    for text in ("", "[", "{}", "null", "[" * 10_000, '{"seed": NaN}'):
        assert not cell.is_stored_as(text)


def test_a_default_spelt_out_gives_the_same_key():
    spelt = Component(name="arcface", parameters={"m": 0.5, "s": 64})
    assert cell_of().key == cell_of(head=spelt).key


@pytest.mark.parametrize(("first", "second"), [(16, 16.0), (16.0, 16)])
def test_whole_numbers_and_floats_give_the_same_key(first, second):
    cells = [cell_of(head=Component(name="arcface", parameters={"s": s})) for s in (first, second)]
    assert cells[0].key == cells[1].key


def test_a_list_and_a_tuple_give_the_same_key():
    cells = [
        cell_of(backbone=Component(name="small", parameters={"widths": widths}))
        for widths in ([8, 16], (8, 16))
    ]
    assert cells[0].key == cells[1].key


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"precision": "bf16"},
        {"head": Component(name="arcface", parameters={"m": 0.4})},
        {"data": Component(name="digits", parameters={"left_out": [1, 2]})},
        {"schedule": SCHEDULE.model_copy(update={"iterations": 11})},
    ],
)
def test_whatever_changes_the_run_changes_the_key(change):
    assert cell_of(**change).key != cell_of().key


def test_the_setting_is_a_name_and_no_part_of_the_key():
    assert cell_of(setting="a").key == cell_of(setting="b").key


def test_cells_that_differ_in_head_and_seed_only_may_be_compared():
    assert cell_of().comparison == cell_of(head=Component(name="softmax"), seed=3).comparison
    longer = SCHEDULE.model_copy(update={"iterations": 11})
    assert cell_of().comparison != cell_of(schedule=longer).comparison


def test_the_key_stays_as_it_was_published():
    """A changed key orphans every run folder there is: it must be meant, and bump the schema."""
    without = {"lambda_base": 0.0, "lambda_gamma": 2.5e-5, "lambda_power": 35.0, "lambda_min": 0.0}
    assert tiny_cell("l-softmax", m=2, **without).key == "469868f271be"


def test_a_field_added_later_stays_out_of_the_key_at_its_neutral_value():
    values = cell_of().model_dump()
    for path, neutral in ADDED_LATER.items():
        holder = values
        *parents, name = path.split(".")
        for parent in parents:
            holder = holder[parent]
        assert holder.pop(name) == neutral
    assert make_cell(**values).key == cell_of().key
    patient = SCHEDULE.model_copy(update={"plateau_patience": 1})
    assert cell_of(schedule=patient).key != cell_of().key
    assert cell_of(verification={"centre": True}).key != cell_of().key


LATER = """
from typing import Annotated, Literal

from marginbench.backbones import register_backbone
from marginbench.backbones.plain import small
from marginbench.heads import register_head
from marginbench.losses.softmax import Softmax
from marginbench.plugins.parameters import AddedLater, Positive


@register_head("with-later")
class WithLater(Softmax):
    def __init__(self, in_features, num_classes, *, scale: Positive = 1.0,
                 easy: Annotated[bool, AddedLater(False)] = False,
                 power: Annotated[Positive, AddedLater(2)] = 3.0,
                 shape: Annotated[tuple[int, ...] | None, AddedLater((1, 2))] = (1, 2)):
        super().__init__(in_features, num_classes)


@register_backbone("small-with-later")
def small_with_later(image_shape, *, twice: Annotated[bool, AddedLater(False)] = False):
    return small(image_shape)
"""


@pytest.fixture(scope="module")
def later(tmp_path_factory):
    """A head and a backbone that got parameters later."""
    file = tmp_path_factory.mktemp("plugin") / "later.py"
    file.write_text(LATER)
    load_plugin_file(file)


def later_cell(backbone=None, **head):
    return cell_of(
        head=Component(name="with-later", parameters=head),
        backbone=Component(name="small-with-later", parameters=backbone or {}),
    )


def key_without(cell, *names):
    """The key that the cell had before the head had these parameters, the backbone its own."""
    values = cell.model_dump()
    for part in ("head", "backbone"):
        values[part].pop("added_later")
        values[part].pop("former_names")
        for name in (*names, "twice", "weights", "content", "frozen_normalisation"):
            values[part]["parameters"].pop(name, None)
    return make_cell(**values).key


def test_a_parameter_added_later_stays_out_of_the_key_at_its_neutral_value(later):
    neutral = later_cell(power=2.0)
    assert neutral.head.parameters == {"scale": 1.0, "easy": False, "power": 2.0, "shape": (1, 2)}
    assert neutral.key == key_without(neutral, "easy", "power", "shape")
    default = later_cell()
    assert default.key == key_without(default, "easy", "shape")
    others = [{"easy": True}, {"power": 2.5}, {"shape": None}, {"scale": 2.0}]
    cells = [later_cell(**{"power": 2.0, **other}) for other in others]
    assert len({neutral.key, default.key, *(cell.key for cell in cells)}) == 6
    assert later_cell({"twice": True}).comparison != later_cell().comparison


def renamed(*, scale: Annotated[float, FormerName("s")] = 1.0, m: float = 0.5):
    """A part whose parameter was called s."""


def test_a_renamed_parameter_is_known_by_its_old_name_and_keeps_the_key():
    model = parameter_model("head 'renamed'", renamed)
    values = resolve_with("head 'renamed'", model, {"s": 2.0})
    assert values == resolve_with("head 'renamed'", model, {"scale": 2.0}) == {
        "scale": 2.0, "m": 0.5
    }  # fmt: skip
    now = resolved_component("renamed", values, model)
    before = Component(name="renamed", parameters={"s": 2.0, "m": 0.5})
    assert cell_of().model_copy(update={"head": now}).key == (
        cell_of().model_copy(update={"head": before}).key
    )
    with pytest.raises(UserError, match="scale and its former name s are both given"):
        resolve_with("head 'renamed'", model, {"s": 2.0, "scale": 2.0})


def test_a_former_name_that_another_parameter_has_is_refused():
    def function(*, scale: Annotated[float, FormerName("m")] = 1.0, m: float = 0.5):
        pass

    with pytest.raises(UserError, match=r"FormerName\('m'\), which is not allowed: another"):
        parameter_model("head 'renamed'", function)


def test_the_key_is_the_same_without_torch_and_after_a_json(later):
    cell = later_cell(easy=True)
    given = make_cell(
        data=Component(name="digits"),
        backbone=Component(name="small-with-later"),
        head=Component(name="with-later", parameters={"easy": True}),
        schedule=SCHEDULE,
    )
    assert Resolver()(given) == cell
    again = cell_from_json(cell.to_json())
    assert (again.key, again.comparison) == (cell.key, cell.comparison)
    assert resolve_cell(again) == cell


def test_a_neutral_value_must_be_allowed():
    def function(*, margin: Annotated[float, Field(ge=0), AddedLater("none")] = 0.0):
        pass

    with pytest.raises(UserError, match=r"margin is marked with AddedLater\('none'\).* number ≥ 0"):
        parameter_model("head 'mine'", function)


LFW_CONTENT = {"view1": "ab2513e7271f71d5", "unrestricted": "8a3c41912c4bb6af"}
"""Of the files that the published cells on LFW were trained on; tests do not have them."""


@pytest.mark.parametrize(
    "table", sorted(PUBLISHED.glob("*/cells.csv")), ids=lambda p: p.parent.name
)
def test_published_keys_stay_what_they_are(table):
    with table.open(encoding="utf-8", newline="") as file:
        published = [(int(row["seed"]), row["key"]) for row in csv.DictReader(file)]
    name, _, size = table.parent.name.rpartition("-")
    seeds = max(seed for seed, _ in published) + 1
    keys = set()
    for cell in Resolver().with_other_heads(find_suite(name).cells(seeds, size)):
        data = cell.data
        if data.name == "lfw":
            parameters = data.parameters | {"content": LFW_CONTENT[data.parameters["protocol"]]}
            data = data.model_copy(update={"parameters": parameters})
        keys.add(resolve_cell(cell.model_copy(update={"data": data})).key)
    assert published
    assert {key for _, key in published} <= keys


def test_a_cell_survives_its_json():
    cell = cell_of(seed=3, setting="here")
    again = cell_from_json(cell.to_json())
    assert again.key == cell.key
    assert again.setting == "here"
    assert resolve_cell(again).key == cell.key


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schedule": {"iterations": 0, "batch_size": 8}}, ["schedule.iterations = 0", "≥ 1"]),
        ({"schedule": {"batch_size": 8}}, ["needs the field 'schedule.iterations'"]),
        ({"precision": "fp8"}, ["precision = 'fp8'", "'float32' or 'bf16'"]),
        ({"seed": -1}, ["seed = -1", "integer from 0 to below"]),
        ({"colour": 1}, ["no field 'colour'", "backbone"]),
        ({"optimiser": {"lr": 0.1}}, ["no field 'optimiser.lr'", "learning_rate"]),
        ({"optimiser": {"learning_rate": -1}}, ["optimiser.learning_rate = -1", "> 0"]),
        (
            {"schedule": {"iterations": 10, "batch_size": 8, "milestones": (8, 4)}},
            ["schedule.milestones = [8, 4]", "below schedule.iterations = 10"],
        ),
        (
            {"schedule": {"iterations": 10, "batch_size": 8, "evaluations": 11}},
            ["schedule.evaluations = 11", "at most schedule.iterations = 10"],
        ),
        ({"head": Component(name="nohead")}, ["unknown head 'nohead'", "arcface"]),
        ({"backbone": Component(name="big")}, ["unknown backbone 'big'", "small"]),
        ({"data": Component(name="nodata")}, ["unknown data source 'nodata'", "digits"]),
        (
            {"backbone": Component(name="small", parameters={"widths": [0]})},
            ["backbone 'small'", "widths"],
        ),
    ],
)
def test_what_is_not_allowed_is_named(change, words):
    with pytest.raises(UserError) as refusal:
        cell_of(**change)
    for word in words:
        assert word in str(refusal.value)
