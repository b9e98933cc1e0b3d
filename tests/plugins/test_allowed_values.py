"""What is refused is told with what is allowed, as a user writes it."""

import math
import re
from typing import get_args

import pytest
from pydantic import BaseModel, ValidationError

from marginbench.dispatch.slurm.settings import ClusterSettings
from marginbench.dispatch.slurm.submission import SubmissionFile
from marginbench.errors import UserError
from marginbench.experiments.cell_fields import Schedule
from marginbench.experiments.cells import Cell, cell_from_json, make_cell
from marginbench.experiments.head_search import HeadSearch
from marginbench.plugins.allowed_values import refusal
from marginbench.plugins.component import Component
from marginbench.runs.attempts import Attempt
from marginbench.runs.lease_state import _Content
from marginbench.runs.result_file import _Result


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("data", 5, r"component\(\.\.\.\)"),
        ("regulariser", 5, r"component\(\.\.\.\) or None"),
        ("optimiser", 4, r"Optimiser\(\.\.\.\)"),
        ("training", 3, r"Training\(\.\.\.\)"),
    ],
)
def test_a_part_of_another_type_is_refused_with_what_is_written_in_its_place(field, value, allowed):
    parts = {name: Component(name="x") for name in ("data", "backbone", "head")}
    parts["schedule"] = Schedule(iterations=1, batch_size=1)
    with pytest.raises(UserError, match=rf"{field} = {value} is not allowed; allowed: {allowed}$"):
        make_cell(**parts | {field: value})


def models():
    """Every model that a user's values or files are checked by, with those within it."""
    found = [Cell, ClusterSettings, HeadSearch, SubmissionFile, _Result, _Content, Attempt]
    for model in found:
        for field in model.model_fields.values():
            parts = [field.annotation]
            for part in parts:
                parts += get_args(part)
                is_model = isinstance(part, type) and issubclass(part, BaseModel)
                found += [part] if is_model and part not in found else []
    return found


VALUES = [
    *(None, 5, -1, 10**30, 0.5, math.inf, math.nan, True, "x", "", [], {}, [[1]], [None], ["x"]),
    *({"a": 1}, {"name": 3}, {"no such": [1]}, [{"name": 3}], object(), 10**5000, "x" * 10**6),
]


def refused_by(model, value):
    try:
        model.model_validate(value)
    except ValidationError as error:
        return error
    return None


@pytest.mark.parametrize("model", models(), ids=lambda model: model.__name__)
def test_no_refusal_has_the_words_of_pydantic(model):
    refused = [
        error
        for name in model.model_fields
        for value in VALUES
        if (error := refused_by(model, {name: value}))
    ]
    assert refused
    for error in refused:
        message = refusal("it", model, error, most=1000)
        assert not any(one["msg"] in message for one in error.errors()), message
        assert not re.search("should|forbidden|permitted|<class|typing", message), message
        assert len(message) < 20_000


@pytest.mark.parametrize("text", ["", "{", "[" * 1000, '{"seed": 1e400}', "[1]", "7"])
def test_text_that_is_no_cell_is_refused_in_our_words(text):
    with pytest.raises(UserError) as refused:
        cell_from_json(text)
    assert not re.search("should|Invalid|permitted|type=", str(refused.value))


def test_a_value_within_a_list_is_refused_with_what_its_items_may_be():
    with pytest.raises(ValidationError) as refused:
        Schedule.model_validate({"iterations": 1, "batch_size": 1, "milestones": [1, "x"]})
    expected = "it: milestones.1 = 'x' is not allowed; allowed: integer"
    assert refusal("it", Schedule, refused.value).startswith(expected)
