"""The comparison table: what its cells say, and what they do not claim."""

import pytest
from marginbench.reports.comparison import comparison

from tests.reports.frames import frame, row


@pytest.mark.parametrize("seeds", [2, 3])
def test_a_difference_equal_in_all_seeds_has_no_interval_and_no_mark(seeds):
    rows = [row(head, seed=s, error=e) for head, e in (("softmax", 0.3), ("arcface", 0.2785))
            for s in range(seeds)]  # fmt: skip
    (table,) = comparison(frame(rows)).tables
    _, other = table.frame.to_dict("records")
    assert other["difference"] == "-2.15"
    assert other["p (Holm)"] == ""


def test_a_difference_that_varies_has_its_interval():
    errors = {"softmax": (0.30, 0.30, 0.30), "arcface": (0.27, 0.28, 0.29)}
    rows = [row(h, seed=s, error=e) for h, those in errors.items() for s, e in enumerate(those)]
    (table,) = comparison(frame(rows)).tables
    # Mean -2, deviation 1, three seeds: t = 4.303 for 97.5 % with two degrees of freedom.
    assert table.frame["difference"].tolist()[1] == "-2.00 [-4.48, +0.48]"
