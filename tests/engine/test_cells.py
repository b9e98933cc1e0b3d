"""Cells: keys that mean the experiment and nothing else, and refusals that name the field."""

import pytest

from marginbench.cells import (
    ADDED_LATER,
    Component,
    Schedule,
    cell_from_json,
    make_cell,
    resolve_cell,
)
from marginbench.errors import UserError
from tests.conftest import tiny_cell

SCHEDULE = Schedule(iterations=10, batch_size=8, evaluations=2)


def cell_of(**changes):
    fields = {
        "data": Component(name="digits"),
        "backbone": Component(name="small"),
        "head": Component(name="arcface"),
        "schedule": SCHEDULE,
    }
    return resolve_cell(make_cell(**(fields | changes)))


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
    assert tiny_cell("l-softmax", m=2).key == "469868f271be"


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
        ({"seed": -1}, ["seed = -1", "≥ 0"]),
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
