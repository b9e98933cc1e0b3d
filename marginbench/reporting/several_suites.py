"""Heads over several data sets: ranks, pairwise tests, and who wins how often.

Demšar, *Statistical Comparisons of Classifiers over Multiple Data Sets*, JMLR 2006; the pairwise
Wilcoxon tests with Holm's correction in place of Nemenyi's after Benavoli, Corani, Mangili, *Should
We Really Use Post-Hoc Tests Based on Mean-Ranks?*, JMLR 2016: whether two heads differ must not
depend on which others are in the table.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import stats

from marginbench.reporting.compared_tables import compared_tables
from marginbench.reporting.significance import LEVEL, holm
from marginbench.reporting.verdicts import BETTER, WORSE, finished_values, verdicts
from marginbench.runs.conditions import labels_of_frame, varying_fields
from marginbench.runs.values_in_words import told_apart


def together(frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The results of several suites in one frame, their settings named and kept apart by suite.

    Args:
        frames: see :func:`marginbench.runs.results.results`, by the suite's name.
    """
    parts = []
    for name, frame in frames.items():
        setting = [f"{name}: {text}" if text else name for text in frame["setting"]]
        comparison = [f"{name}/{key}" for key in frame["comparison"]]
        parts.append(frame.assign(setting=setting, comparison=comparison, suite=name))
    # A column that is all missing in one suite says nothing of its type.
    every = pd.concat([part.astype(object) for part in parts], ignore_index=True).infer_objects()
    # One label a head: each suite's own shows what tells its own heads apart.
    return every.assign(label=labels_of_frame(every))


def scores(results: pd.DataFrame) -> pd.DataFrame:
    """The mean error of every head on every data set.

    A data set is a setting with the measure that decides it: the test error, or one minus the
    verification accuracy.

    Returns:
        A row a data set, a column a label, fractions; NaN where no run finished.
    """
    rows = {}
    for table in compared_tables(results):
        if not table.decides:
            continue
        means = {}
        for label, group in table.rows.groupby("label", sort=False):
            values = list(finished_values(group).values())
            mean = float(np.mean(values)) if values else np.nan
            means[label] = mean if table.lower_is_better else 1 - mean
        rows[table.setting] = means
    return pd.DataFrame.from_dict(rows, orient="index")


def other_parameters(results: pd.DataFrame) -> list[str]:
    """A sentence for each label whose head has other parameters in another suite.

    It counts as one head: a suite gives it what its images and its length need.
    """
    sentences = []
    for label, rows in results.groupby("label", sort=False):
        heads = rows.drop_duplicates(["suite", "head_key"])
        if heads["head_key"].nunique() > 1:
            own = list(heads["head_parameters"])
            fields = varying_fields(own)
            texts = told_apart([{f: one[f] for f in fields if f in one} for one in own])
            of = "; ".join(f"{t} ({s})" for t, s in zip(texts, heads["suite"], strict=True))
            sentences.append(f"{label} is one head here, with parameters of each suite: {of}.")
    return sentences


def complete(errors: pd.DataFrame) -> pd.DataFrame:
    """Without the heads that lack a data set: ranks need all of them."""
    return errors.dropna(axis="columns", how="any")


def mean_ranks(errors: pd.DataFrame) -> pd.Series:
    """The mean rank of each head over the data sets, 1 the lowest error; ties share their ranks.

    Args:
        errors: :func:`complete`.

    Returns:
        By label, the best first.
    """
    return errors.rank(axis="columns").mean().sort_values(kind="stable")


def pairwise_wilcoxon(errors: pd.DataFrame) -> pd.DataFrame:
    """Wilcoxon's signed-rank test of every two heads over the data sets.

    Args:
        errors: :func:`complete`.

    Returns:
        Columns first, second (labels), difference (median of first minus second), p (two-sided,
        exact where there are no ties) and p_corrected (Holm over all pairs). NaN where the two
        heads are equal on all data sets.
    """
    rows = []
    for first, second in itertools.combinations(errors.columns, 2):
        differences = (errors[first] - errors[second]).to_numpy(float)
        same = not np.any(differences)
        p_value = np.nan if same else float(stats.wilcoxon(differences).pvalue)
        rows.append((first, second, float(np.median(differences)), p_value))
    frame = pd.DataFrame(rows, columns=["first", "second", "difference", "p"])
    return frame.assign(p_corrected=holm(frame["p"].tolist()))


def not_told_apart(ranks: pd.Series, pairs: pd.DataFrame) -> list[list[str]]:
    """The longest runs of heads, neighbours in rank, of which no two differ: a diagram's bars.

    Args:
        ranks: :func:`mean_ranks`.
        pairs: :func:`pairwise_wilcoxon` of the same heads.
    """
    differ = pairs[pairs["p_corrected"] < LEVEL]
    apart = {frozenset(pair) for pair in zip(differ["first"], differ["second"], strict=True)}
    labels = list(ranks.index)
    groups: list[list[str]] = []
    end = 0
    for start in range(len(labels)):
        stop = start + 1
        while stop < len(labels) and not any(
            frozenset((labels[stop], other)) in apart for other in labels[start:stop]
        ):
            stop += 1
        # One that lies within the last adds nothing.
        if stop - start > 1 and stop > end:
            groups.append(labels[start:stop])
            end = stop
    return groups


def wins_draws_losses(results: pd.DataFrame) -> pd.DataFrame:
    """On how many data sets the verdict is better, neither, or worse, for every two heads.

    Each head is in turn what the others are compared with, corrected over its own table.

    Returns:
        A row and a column a label: (wins, draws, losses) of the row's head against the column's;
        NaN on the diagonal, and where no data set has both.
    """
    labels = list(dict.fromkeys(results["label"]))
    matrix = pd.DataFrame(None, index=labels, columns=labels, dtype=object)
    for other in labels:
        found = verdicts(results, against=other)
        counted = found[found["decides"] & (found["seeds"] > 0)]
        for label, rows in counted.groupby("label", sort=False):
            won, lost = ((rows["verdict"] == verdict).sum() for verdict in (BETTER, WORSE))
            matrix.at[label, other] = (int(won), int(len(rows) - won - lost), int(lost))
    return matrix
