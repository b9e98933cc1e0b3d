"""What the methods say of the settings: a column a field, or with many fields one column."""

import pytest
from marginbench.reports.methods import MOST_COLUMNS, methods

from tests.reports.frames import frame, row


def conditions(fields):
    """Two settings, of which one has fields that the other lacks."""
    more = {f"regulariser.parameters.p{number}": number for number in range(fields)}
    rows = [row(setting="plain", comparison="a"), row(setting="more", comparison="b")]
    rows[1]["conditions"] |= more
    (table,) = [one for one in methods(frame(rows)).tables if one.name == "conditions"]
    return table.frame


@pytest.mark.parametrize("fields", [1, MOST_COLUMNS])
def test_few_fields_have_a_column_each(fields):
    found = conditions(fields)
    assert list(found.columns[1:]) == [f"regulariser.parameters.p{n}" for n in range(fields)]
    assert found.iloc[0, 1:].tolist() == ["–"] * fields
    assert found.iloc[1, 1:].tolist() == [str(n) for n in range(fields)]


def test_many_fields_are_named_setting_by_setting():
    found = conditions(MOST_COLUMNS + 1)
    assert found.to_numpy().tolist() == [
        ["plain", ""],
        ["more", " ".join(f"regulariser.parameters.p{n}={n}" for n in range(MOST_COLUMNS + 1))],
    ]
