"""A frame of verdicts made by hand, as marginbench.reporting.verdicts makes it."""

import math

import pandas as pd

from marginbench.reporting.verdicts import COLUMNS

NAN = math.nan


def verdict(label, kind, difference=0.0, half=0.001, **fields):
    """A head of "ten digits", test error, ten seeds; fields override."""
    values = {
        "setting": "ten digits",
        "measure": "test_error",
        "label": label,
        "baseline": "softmax",
        "verdict": kind,
        "difference": difference,
        "low": difference - half,
        "high": difference + half,
        "value": 0.05 + difference,
        "baseline_value": 0.05,
        "seeds": 10,
        "asked": 10,
        "diverged": 0,
        "baseline_diverged": 0,
        "train_error": 0.01,
        "baseline_train_error": 0.01,
        "not_fitted": False,
        "baseline_not_fitted": False,
        "more_seeds": NAN,
        "equal_within": 0.002,
        "lower_is_better": True,
    }
    return values | fields


def made_verdicts():
    """Every verdict, an accuracy, and a setting with one seed."""
    accuracy = {
        "setting": "open set",
        "measure": "verification_accuracy",
        "lower_is_better": False,
    }
    alone = {"setting": "2-D", "seeds": 1, "low": NAN, "high": NAN}
    rows = [
        verdict("hinge", "worse", 0.003),
        verdict("arcface m=0.3", "not decided", -0.001, more_seeds=4.0),
        verdict("l-softmax m=3", "better", -0.0085, 0.0028),
        verdict("contrastive", "equal", 0.0001),
        verdict("magface", "unstable", -0.01, seeds=5, diverged=5),
        verdict("triplet", "diverged", NAN, seeds=0, diverged=10),
        verdict("hinge", "better", 0.02, **accuracy),
        verdict("l-softmax m=3", "not decided", -0.05, more_seeds=math.inf, **accuracy),
        verdict("hinge", "not decided", 0.01, **alone),
        verdict("arcface m=0.1", "not decided", 0.02, **alone),
    ]
    return pd.DataFrame(rows, columns=COLUMNS)
