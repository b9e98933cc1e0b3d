"""Heads over several data sets: ranks, pairwise tests, and who wins how often.

Demšar, *Statistical Comparisons of Classifiers over Multiple Data Sets*, JMLR 2006; the pairwise
Wilcoxon tests with Holm's correction in place of Nemenyi's after Benavoli, Corani, Mangili, *Should
We Really Use Post-Hoc Tests Based on Mean-Ranks?*, JMLR 2016: whether two heads differ must not
depend on which others are in the table.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from marginbench.reporting.compared_tables import ComparedTable, compared_tables
from marginbench.reporting.fitting import error_by_chance
from marginbench.reporting.paired_seeds import Seeds
from marginbench.reporting.significance import LEVEL, holm
from marginbench.reporting.verdicts import BETTER, WORSE, finished_values, verdicts
from marginbench.runs.cell_status import State
from marginbench.runs.conditions import labels_of_frame, varying_fields
from marginbench.runs.values_in_words import told_apart
from marginbench.text import count


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


@dataclass(frozen=True)
class Ranking:
    """The heads that are ranked over data sets.

    A data set is a setting with the measure that decides it: the test error, or one minus the
    verification accuracy.

    Attributes:
        errors: a row a data set, a column a label; means over the seeds in which all of these heads
            have ended, fractions. A diverged run counts as an answer by chance.
        seeds: by data set, where they are fewer than asked for: "1 of 2 seeds".
        diverged: by (data set, label): how many of these seeds diverged, if any did.
        left_out: labels without a result on every data set, or without a seed in common.
    """

    errors: pd.DataFrame
    seeds: dict[str, str]
    diverged: dict[tuple[str, str], int]
    left_out: list[str]


def ranking(results: pd.DataFrame) -> Ranking:
    """The mean error of every head on every data set, over the same seeds."""
    ended: dict[str, dict[str, dict[int, float]]] = {}
    tables = {table.setting: table for table in compared_tables(results) if table.decides}
    groups = {name: dict(iter(t.rows.groupby("label", sort=False))) for name, t in tables.items()}
    for name, table in tables.items():
        found = {label: _errors(table, rows, results) for label, rows in groups[name].items()}
        if any(found.values()):
            ended[name] = found
    every = list(dict.fromkeys(results["label"]))
    labels = [label for label in every if all(own.get(label) for own in ended.values())]
    while labels:
        shared = {
            name: set.intersection(*(set(own[label]) for label in labels))
            for name, own in ended.items()
        }
        empty = next((name for name, seeds in shared.items() if not seeds), None)
        if empty is None:
            break
        # The head with the fewest seeds has none in common with the others; of several, the last.
        labels.remove(min(reversed(labels), key=lambda label: len(ended[empty][label])))
    rows, counts, diverged = {}, {}, {}
    for name, own in ended.items() if labels else ():
        rows[name] = {
            label: float(np.mean([own[label][seed] for seed in sorted(shared[name])]))
            for label in labels
        }
        asked = max(len(groups[name][label]) for label in labels)
        if len(shared[name]) < asked:
            counts[name] = f"{len(shared[name])} of {count(asked, 'seed')}"
        for label in labels:
            states = groups[name][label].set_index("seed")["state"][sorted(shared[name])]
            if number := int((states == State.DIVERGED.value).sum()):
                diverged[name, label] = number
    errors = pd.DataFrame.from_dict(rows, orient="index", columns=labels)
    return Ranking(errors, counts, diverged, [label for label in every if label not in labels])


def _errors(table: ComparedTable, rows: pd.DataFrame, results: pd.DataFrame) -> dict[int, float]:
    """Error by seed of a head's runs that have ended."""
    lower = table.lower_is_better
    values = finished_values(rows)
    own = results[results["comparison"].isin(table.comparisons)]
    # Two images are of one class or not.
    chance = error_by_chance(own) if lower else 0.5
    errors = {seed: value if lower else 1 - value for seed, value in values.items()}
    return errors | dict.fromkeys(Seeds.of(rows, values).diverged, chance)


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


def mean_ranks(errors: pd.DataFrame) -> pd.Series:
    """The mean rank of each head over the data sets, 1 the lowest error; ties share their ranks.

    Args:
        errors: :class:`Ranking`'s.

    Returns:
        By label, the best first.
    """
    return errors.rank(axis="columns").mean().sort_values(kind="stable")


def pairwise_wilcoxon(errors: pd.DataFrame) -> pd.DataFrame:
    """Wilcoxon's signed-rank test of every two heads over the data sets.

    Args:
        errors: :class:`Ranking`'s.

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

    Each head is in turn what the others are compared with, corrected over its own table. A head
    that diverged in more seeds than the other has lost.

    Returns:
        A row and a column a label: (wins, draws, losses) of the row's head against the column's;
        NaN on the diagonal, and where no data set has both.
    """
    labels = list(dict.fromkeys(results["label"]))
    matrix = pd.DataFrame(None, index=labels, columns=labels, dtype=object)
    for other in labels:
        found = verdicts(results, against=other)
        counted = found[found["decides"] & found["probability_better"].notna()]
        for label, rows in counted.groupby("label", sort=False):
            more = rows["diverged"] - rows["baseline_diverged"]
            won = int(((rows["verdict"] == BETTER) | (more < 0)).sum())
            lost = int(((rows["verdict"] == WORSE) | (more > 0)).sum())
            matrix.at[label, other] = (won, len(rows) - won - lost, lost)
    return matrix
