"""Which measure of a setting decides it: by it seeds are added and data sets ranked."""

import pytest

from marginbench.reporting.compared_tables import compared_tables
from tests.reports.frames import frame, row, verified

CLOSED = [row(seed=seed) for seed in range(3)]


def decides(rows):
    return {(one.setting, one.measure): one.decides for one in compared_tables(frame(rows))}


def test_the_test_error_decides_a_closed_set():
    assert decides(CLOSED) == {("MNIST (Table 2)", "test_error"): True}


@pytest.mark.parametrize("error", [None, 0.1])
def test_verification_decides_where_classes_are_left_out(error):
    """With test images of the classes that are trained on, and without; as in a search."""
    found = decides([*CLOSED, *(verified("softmax", s, 0.5, test_error=error) for s in range(3))])
    assert found.pop(("MNIST (Table 2)", "test_error"))
    assert found.pop(("open", "verification_accuracy"))
    rest = {("open", "map_at_r"), ("open", "one_shot_error")}
    assert found.keys() == (rest if error is None else rest | {("open", "test_error")})
    assert not any(found.values())


def test_before_anything_was_verified_no_setting_is_without_a_measure():
    begun = [row(setting="open", comparison="o", error=None, state="not started")]
    assert decides(begun) == {("open", "test_error"): True}


def test_a_protocols_sets_that_are_not_begun_ask_for_no_test_error():
    """As LFW's ten: what the first one shows is what all of them are asked."""
    begun = {"verification": None, "verification_accuracy": None, "state": "not started"}
    rows = [
        verified(
            head,
            0,
            0.5,
            test_error=None,
            comparison=f"c{tested}",
            data_parameters={"tested_set": tested},
            **(begun if tested > 1 else {}),
        )
        for tested in (1, 2, 3)
        for head in ("softmax", "arcface")
    ]
    assert {measure for _, measure in decides(rows)} == {"verification_accuracy", "one_shot_error"}
