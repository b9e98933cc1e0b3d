"""The comparison: what its sentences and cells say, and what they do not claim."""

import pytest
from marginbench.reports.comparison import comparison
from scipy import stats

from tests.reports.frames import frame, row


def made(errors, **fields):
    return frame(
        [
            row(h, seed=s, error=e, **fields)
            for h, those in errors.items()
            for s, e in enumerate(those)
        ]
    )


def tables_of(errors, **fields):
    """The verdicts, and the numbers, one a row."""
    words, numbers = comparison(made(errors, **fields)).tables
    assert (words.name, numbers.name) == ("verdicts-mnist-table-2", "comparison-mnist-table-2")
    return words, numbers


@pytest.mark.parametrize("seeds", [2, 3])
def test_a_difference_equal_in_all_seeds_has_no_interval_and_no_verdict(seeds):
    words, numbers = tables_of({"softmax": [0.3] * seeds, "arcface": [0.2785] * seeds})
    _, other = numbers.frame.to_dict("records")
    assert (other["difference (points)"], other["p (Holm)"]) == ("-2.15", "")
    assert other["verdict"] == "not decided"
    assert words.frame["in words"].tolist() == [
        f"arcface is not decided against softmax: difference -2.15 points, {seeds} seeds; it is "
        "the same in all seeds, which tells nothing of its spread"
    ]


def test_a_difference_that_varies_has_its_interval_and_the_seeds_that_it_wants():
    errors = {"softmax": (0.30, 0.30, 0.30), "arcface": (0.27, 0.28, 0.29)}
    words, numbers = tables_of(errors)
    # Mean -2, deviation 1, three seeds: t = 4.303 for 97.5 % with two degrees of freedom.
    assert numbers.frame["difference (points)"].tolist()[1] == "-2.00 [-4.48, +0.48]"
    # An effect of two deviations is found with a chance of 80 % by 5 seeds.
    assert numbers.frame["verdict"].tolist() == ["baseline", "not decided: about 2 seeds more"]
    assert words.frame.iloc[0]["P(better)"] == "1.00 [0.29, 1.00], few seeds"


def test_a_sentence_to_quote():
    errors = {"softmax": (0.30,) * 5, "arcface": (0.27, 0.28, 0.29, 0.28, 0.28)}
    words, numbers = tables_of(errors, test_images=1000)
    low, high = stats.t.interval(0.95, 4, 2, 0.5**0.5 / 5**0.5)
    assert words.frame["in words"].tolist() == [
        f"arcface is better than softmax by 2.00 points [{low:.2f}, {high:.2f}], 5 seeds"
    ]
    wilson = stats.binomtest(300, 1000).proportion_ci(method="wilson")
    shown = f"[{100 * wilson.low:.2f}, {100 * wilson.high:.2f}]"
    assert numbers.frame["test set 95 %"][0] == shown


def test_equal_within_what_the_suite_declares():
    errors = {"softmax": (0.30,) * 4, "arcface": (0.301, 0.299, 0.3, 0.3)}
    words, _ = tables_of(errors, equal_within=0.01)
    assert words.frame["verdict"].tolist() == ["equal"]
    assert words.frame["in words"][0].startswith("arcface equals softmax within ±1.00 points: ")
    assert "Equal is within ±1.00 percentage points" in words.caption


def test_diverged_runs_are_told_in_the_sentence():
    rows = [row(seed=s, error=0.3) for s in range(4)]
    rows += [row("arcface", seed=s, error=0.27 + 0.001 * s) for s in range(3)]
    rows += [row("arcface", seed=3, error=None, state="diverged")]
    rows += [row("hinge", seed=s, error=None, state="diverged") for s in range(4)]
    rows += [row("triplet", seed=s, error=0.4 + 0.001 * s) for s in range(3)]
    rows += [row("triplet", seed=3, error=None, state="diverged")]
    words = comparison(frame(rows)).tables[0].frame.set_index("head")
    assert words["in words"].tolist() == [
        "arcface is unstable against softmax: 1 of 4 diverged; difference over the other 3 seeds "
        "-2.90 [-3.15, -2.65] points",
        "hinge diverged in all runs that ended, 4 seeds",
        "triplet is worse than softmax by 10.10 points [9.85, 10.35], 3 seeds; 1 of 4 diverged, "
        "which counts in P(better), not in the difference",
    ]
    assert words["verdict"].tolist() == ["unstable", "diverged", "worse"]
    # Three seeds won and one lost; four lost.
    assert words["P(better)"].str.split(" ").str[0].tolist() == ["0.75", "0.00", "0.00"]


def test_a_head_that_has_not_fitted_is_marked_beside_its_verdict():
    """As README's first example was: L-Softmax with m = 2 whose λ is 0 from the start."""
    for classes, fields in ((10, {"num_classes": 10}), (20, {"num_classes": 20}), (10, {})):
        rows = [row(seed=s, error=0.02, train_error=0.0, **fields) for s in range(3)]
        rows += [
            row("l-softmax", 2, s, 0.3 + 0.001 * s, train_error=0.836, **fields) for s in range(3)
        ]
        words, numbers = comparison(frame(rows)).tables
        assert words.frame["in words"][0].endswith(
            "; has not fitted its training images: training error 83.6 %, softmax 0.0 %"
        ), classes
        assert numbers.frame["verdict"].tolist() == ["baseline", "worse (has not fitted)"]


def test_a_baseline_that_has_not_fitted_is_marked():
    rows = [row(seed=s, error=0.9, train_error=0.89, num_classes=10) for s in range(3)]
    rows += [row("arcface", seed=s, error=0.1 + 0.001 * s, num_classes=10) for s in range(3)]
    _, numbers = comparison(frame(rows)).tables
    assert numbers.frame["verdict"].tolist() == ["baseline (has not fitted)", "better"]
