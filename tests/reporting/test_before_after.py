"""Two sets of runs side by side: what has changed, and what may be said of it."""

import numpy as np
import pytest
from scipy import stats

from marginbench.reporting.before_after import changes, changes_content
from tests.reports.frames import frame, row

BEFORE = {"softmax": (0.30, 0.31, 0.32, 0.30), "arcface": (0.20, 0.22, 0.21, 0.20)}
AFTER = {"softmax": (0.30, 0.31, 0.32, 0.30), "arcface": (0.15, 0.16, 0.16, 0.14)}


def runs(errors, **fields):
    rows = [
        row(head, None, seed, error, key=f"{head}{seed}", code="a", **fields)
        for head, values in errors.items()
        for seed, error in enumerate(values)
    ]
    return frame(rows)


def test_a_change_is_paired_by_seed_and_corrected_over_the_table():
    found = changes(runs(BEFORE), runs(AFTER)).set_index("label")
    assert found.loc["softmax", "verdict"] == "same"
    better = found.loc["arcface"]
    differences = np.subtract(AFTER["arcface"], BEFORE["arcface"])
    test = stats.ttest_rel(AFTER["arcface"], BEFORE["arcface"])
    interval = test.confidence_interval()
    # One testable row: Holm's factor is 1.
    assert better["p_corrected"] == pytest.approx(test.pvalue)
    assert (better["low"], better["high"]) == pytest.approx((interval.low, interval.high))
    assert better["change"] == pytest.approx(differences.mean())
    assert better["verdict"] == "better"


def test_of_an_accuracy_more_is_better():
    accuracies = [
        runs({"softmax": values}).assign(verification_accuracy=list(values), test_error=np.nan)
        for values in ((0.70, 0.71, 0.72, 0.70), (0.80, 0.82, 0.81, 0.81))
    ]
    (verdict,) = changes(*accuracies)["verdict"]
    assert verdict == "better"


def test_missing_cells_and_settings_are_no_error():
    fewer = runs({"softmax": (0.30,), "hinge": (0.2,)})
    found = changes(fewer, runs(AFTER))
    assert found["label"].tolist() == ["softmax"]
    assert found["seeds"].tolist() == [1]
    assert changes(runs(BEFORE, setting="other"), runs(AFTER)).empty
    assert changes_content(fewer.iloc[:0], runs(AFTER), "old").tables == []


def test_the_section_says_what_code_made_the_cells():
    after = runs(AFTER)
    after.loc[after["label"] == "arcface", "code"] = "b"
    content = changes_content(runs(BEFORE), after, "runs-old/digits")
    (text,) = content.text
    assert text.startswith("Before: runs-old/digits. 8 cells finished in both with the same key, 4")
    assert [(one.kind, len(one.items)) for one in content.findings] == [("better", 1), ("same", 1)]
    assert content.tables[0].frame["seeds"].tolist() == ["4, 4 equal", "4"]
    # Differences of -5 to -6 points in four seeds: p = 0.0003; where all are equal there is none.
    assert content.tables[0].frame["p (Holm)"].tolist() == ["", "< 0.001"]
