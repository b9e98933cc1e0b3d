"""What is refused is told with what is allowed, as a user writes it."""

import pytest

from marginbench.errors import UserError
from marginbench.experiments.cell_fields import Schedule
from marginbench.experiments.cells import make_cell
from marginbench.plugins.component import Component


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
