"""How a verdict's numbers stand in sentences and tables."""

import math
from types import SimpleNamespace

import pytest

from marginbench.reporting.verdict_words import p_statement, p_text, sentence
from marginbench.reporting.verdicts import NOT_DECIDED


@pytest.mark.parametrize(
    ("p", "text", "statement"),
    [
        (0.0144, "0.014", "p = 0.014"),
        (1.0, "1.000", "p = 1.000"),
        (0.00051, "0.001", "p = 0.001"),
        (0.00049, "< 0.001", "p < 0.001"),
        (0.0, "< 0.001", "p < 0.001"),
    ],
)
def test_no_p_is_said_to_be_zero(p, text, statement):
    assert (p_text(p), p_statement(p)) == (text, statement)


def test_two_single_runs_that_differ_beyond_doubt():
    row = SimpleNamespace(
        label="arcface",
        baseline="softmax",
        verdict=NOT_DECIDED,
        difference=-0.03,
        low=math.nan,
        seeds=1,
        more_seeds=math.nan,
        p_images=2e-5,
        looks_left=0,
        look=math.nan,
        diverged=0,
        baseline_diverged=0,
        not_fitted=False,
    )
    assert sentence(row) == (
        "arcface is not decided against softmax: difference -3.00 points, 1 seed; one seed tells "
        "nothing of its spread (on these test images the two runs differ: McNemar, p < 0.001)"
    )
