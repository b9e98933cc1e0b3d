"""Which heads have not fitted their training images: made ones, and all that are published."""

from pathlib import Path

import pandas as pd
import pytest

from marginbench.reporting.fitting import has_not_fitted

PUBLISHED = Path(__file__).parents[2] / "reports" / "published"


@pytest.mark.parametrize(
    ("own", "baseline", "classes", "expected"),
    [
        (0.836, 0.0, 10, True),
        (0.836, 0.0, 20, True),
        (0.836, 0.55, 20, True),
        (0.95, 0.95, 20, True),  # the baseline itself
        (0.3, 0.0, 2, True),
        (0.1, 0.0, 10, False),
        (0.2, 0.0, 2, False),
        (0.0, 0.9, 10, False),
        (0.58, 0.58, 5000, False),
        (0.76, 0.58, 5000, False),
        (float("nan"), 0.0, 10, False),
        (0.8, float("nan"), 10, True),
        (0.5, float("nan"), 10, False),
    ],
)
def test_the_rule(own, baseline, classes, expected):
    assert has_not_fitted(own, baseline, 1 - 1 / classes) == expected


CLASSES = {"study-digits": 10, "study-fashion": 10, "study-mnist": 10, "study-cifar": 20}
NOT_TRAINED = {
    ("study-cifar", "tuned", "hinge"),
    ("study-cifar", "own", "hinge"),
    ("study-cifar", "own", "l-softmax m=2"),
    ("study-lfw", "own", "l-softmax m=2"),
    ("study-lfw", "own", "sphereface2 m=0.2"),
    ("study-omniglot", "tuned", "hinge"),
    ("study-omniglot", "own", "hinge"),
}
"""Those of which more than half of the training images are wrong, where softmax has 6 % at most."""


def test_of_the_published_study_those_that_did_not_train_are_marked_and_no_others():
    marked, heads = set(), 0
    for file in sorted((PUBLISHED / "study" / "runs").glob("*.csv")):
        frame = pd.read_csv(file)
        done = frame[(frame["state"] == "done") & (frame["part"] != "trials")]
        for (_, part), rows in done.groupby(["setting", "part"]):
            means = rows.groupby("label")["train_error"].mean()
            baseline = means[rows.loc[rows["is_baseline"], "label"].iloc[0]]
            chance = 1 - 1 / CLASSES.get(file.stem, 1000)
            heads += len(means)
            marked |= {
                (file.stem, part, label)
                for label, error in means.items()
                if has_not_fitted(error, baseline, chance)
            }
    assert heads > 100
    assert marked == NOT_TRAINED


@pytest.mark.parametrize("suite", ["fig2-small", "hypersphere-small", "lfw-small", "mnist-small"])
def test_no_head_of_the_published_papers_suites_is_marked(suite):
    frame = pd.read_csv(PUBLISHED / suite / "cells.csv")
    frame = frame.assign(setting=frame.get("setting", ""), error=frame["train error %"] / 100)
    chance = 0.999 if suite == "lfw-small" else 0.9
    for _, rows in frame.groupby("setting"):
        means = rows.groupby("head")["error"].mean()
        for error in means:
            assert not has_not_fitted(error, means["softmax"], chance)
