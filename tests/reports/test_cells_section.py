"""The table of all cells, and the versions they were made with."""

from marginbench.reports.cells import cells
from marginbench.reports.methods import methods

from tests.reports.frames import frame, row, with_history


def test_every_cell_has_its_links_and_what_tells_it_apart(tmp_path):
    rows = with_history([row("l-softmax", 4), row(learning_rate=0.2)], tmp_path)
    rows[0] |= {"code": "abc123", "seconds": 2.5}
    rows.append(row(seed=1, error=None, state="not started", folder=tmp_path / "none", key="k"))
    (table,) = cells(frame(rows)).tables
    shown = table.frame
    assert shown["state"].tolist() == ["done", "done", "not started"]
    assert shown["test error %"].tolist() == ["10.00", "10.00", "–"]
    assert shown["configuration"].tolist()[:2] == ["m=4, learning_rate=0.1", "learning_rate=0.2"]
    assert shown["code"].tolist() == ["abc123", "–", "–"]
    assert shown["history"][0].target == tmp_path / "run0" / "history.jsonl"
    assert str(shown["key"][0]) == "key0"


def test_what_differs_between_settings_is_a_table():
    rows = [row(setting=name, comparison=name, learning_rate=r) for name, r in (("a", 1), ("b", 2))]
    content = methods(frame(rows))
    conditions = next(table.frame for table in content.tables if table.name == "conditions")
    assert conditions.to_dict("records") == [
        {"setting": "a", "optimiser.learning_rate": "1"},
        {"setting": "b", "optimiser.learning_rate": "2"},
    ]


def test_cells_of_the_same_versions_are_counted_together():
    libraries = {"torch": "2.4.0"}
    rows = [row(seed=s, code=code, libraries=libraries) for s, code in ((0, "a"), (1, "b"))]
    rows.append(row(device=None, state="not started"))
    content = methods(frame(rows))
    assert "data.name=mnist" in content.text[-1]
    (table,) = content.tables
    assert table.frame.to_dict("records") == [
        {"device": "cpu", "versions": "torch 2.4.0", "cells": 2, "code": "2 digests"}
    ]
