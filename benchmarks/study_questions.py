"""What the study is asked: of tuning, of unequal budgets, of closed sets beside open ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from marginbench.reporting.compared_tables import LOWER_IS_BETTER, MEASURES
from marginbench.reporting.significance import holm, mean_interval, shows_spread
from marginbench.reporting.verdicts import BETTER, WORSE, finished_values, verdicts
from marginbench.text import count

from .study_results import Measured, columns_of, images_of


def tuning_gains(found: Sequence[Measured]) -> pd.DataFrame:
    """Tuned minus own values on the test, paired by seed.

    Returns:
        A row for each head, setting and measure: setting, measure, head, change (a fraction, the
        mean over the seeds that both have; missing without any), low, high (its 95 % interval,
        missing where the seeds show no spread), gained and lost (whether the interval says so).
    """
    lines = []
    for one in found:
        own = {
            (title, head): finished_values(rows)
            for title, every in columns_of(one.own.assign(label=one.own["head"])).items()
            for head, rows in every.groupby("label")
        }
        for (setting, measure), every in columns_of(one.tuned).items():
            for head, rows in every.groupby("label", sort=False):
                after, before = finished_values(rows), own.get(((setting, measure), head), {})
                changes = [after[seed] - before[seed] for seed in after if seed in before]
                low, high = mean_interval(changes) if shows_spread(changes) else (np.nan, np.nan)
                down, up = high < 0, low > 0
                lower = measure in LOWER_IS_BETTER
                lines.append(
                    {
                        "setting": setting,
                        "measure": measure,
                        "head": str(head),
                        "change": float(np.mean(changes)) if changes else np.nan,
                        "low": low,
                        "high": high,
                        "gained": down if lower else up,
                        "lost": up if lower else down,
                    }
                )
    return pd.DataFrame(lines)


@dataclass(frozen=True)
class Replay:
    """Comparisons with softmax over ten seeds, had it had fewer trials than the other heads.

    Attributes:
        comparisons: how many.
        won_with_all, won_with_few: of these, how many a head wins against softmax chosen from all
            trials, and from few.
        changed: the comparisons of which the verdict differs, in words.
    """

    comparisons: int
    won_with_all: int
    won_with_few: int
    changed: list[str]


def fewer_trials(found: Sequence[Measured]) -> Replay:
    """How often heads with all trials beat softmax with all trials, and with few."""
    every: list[tuple[str, str]] = []
    changed = []
    for one in found:
        others = one.tuned[one.tuned["head"] != "softmax"]
        # The same comparison: only what softmax was chosen from differs.
        columns = ["setting", "comparison", "conditions", "max_seeds", "first_look", "spending"]
        softmax = one.tuned[one.tuned["head"] == "softmax"].drop_duplicates("setting")
        fewer = one.fewer.drop(columns=columns[1:]).merge(softmax[columns], on="setting")
        replayed = pd.concat([fewer[one.tuned.columns], others], ignore_index=True)
        fixed = {"max_seeds": np.nan, "first_look": np.nan, "spending": None}
        shared = one.tuned[one.tuned["seed"].isin(one.fewer["seed"])]
        replayed = replayed[replayed["seed"].isin(one.fewer["seed"])]
        full, few = (
            verdicts(frame.assign(**fixed)).set_index(["setting", "measure", "label"])["verdict"]
            for frame in (shared, replayed)
        )
        few = few.reindex(full.index)
        every += list(zip(full, few, strict=True))
        changed += [
            f"{label} on {setting} ({MEASURES[measure]}): {full[setting, measure, label]} → {after}"
            for (setting, measure, label), after in few.dropna().items()
            if after != full[setting, measure, label]
        ]
    return Replay(
        len(every),
        sum(full == BETTER for full, _ in every),
        sum(few == BETTER for _, few in every),
        changed,
    )


def rank_correlations(frame: pd.DataFrame) -> pd.DataFrame:
    """Whether heads that err least on classes they know do best on classes they do not.

    Args:
        frame: of all data sets.

    Returns:
        A row for each closed set, open set and measure of it: closed, open, measure, rho
        (Spearman's, of the heads' means, +1 if the order is the same), heads, p, p_corrected (by
        Holm, over all rows). Empty until a closed and an open set are both whole.
    """
    means = {
        title: rows.groupby("label")["value"].mean() * (1 if title[1] in LOWER_IS_BETTER else -1)
        for title, rows in columns_of(frame).items()
    }
    closed = [title for title in means if title[1] == "test_error"]
    opened = [title for title in means if title[1] in ("verification_accuracy", "map_at_r")]
    lines = []
    for first in closed:
        for second in opened:
            both = pd.concat([means[first], means[second]], axis=1, keys=["a", "b"]).dropna()
            if len(both) > 2:
                rho = stats.spearmanr(both["a"], both["b"])
                lines.append([first[0], *second, float(rho.statistic), len(both), rho.pvalue])
    found = pd.DataFrame(lines, columns=["closed", "open", "measure", "rho", "heads", "p"])
    return found.assign(p_corrected=holm(found["p"].tolist()))


def changed_verdicts(decided: pd.DataFrame, again: pd.DataFrame) -> pd.DataFrame:
    """The verdicts of a data set beside those of a second search and its final runs.

    Args:
        decided: verdicts of the study, settings by their short titles.
        again: verdicts of the second run of a data set.

    Returns:
        A row for each head, setting and measure of ``again``: setting, measure, label, before,
        after (verdicts), difference and difference_after (fractions).
    """
    names = {"verdict": "after", "difference": "difference_after"}
    second = again.assign(setting=again["setting"].map(images_of)).rename(columns=names)
    keys = ["setting", "measure", "label"]
    first = decided[[*keys, "verdict", "difference"]].rename(columns={"verdict": "before"})
    return first.merge(second[[*keys, *names.values()]], on=keys)


def won_and_lost(decided: pd.DataFrame, measure: str) -> str:
    """Of a measure: "11 of 13 comparisons are won and 2 lost", and on each data set.

    Args:
        decided: see :func:`marginbench.reporting.verdicts.verdicts`.
        measure: one of :data:`marginbench.reporting.compared_tables.MEASURES`.
    """

    def numbers(rows: pd.DataFrame) -> tuple[int, int]:
        return int((rows["verdict"] == BETTER).sum()), int((rows["verdict"] == WORSE).sum())

    found = decided[decided["measure"] == measure]
    won, lost = numbers(found)
    text = f"{won} of {count(len(found), 'comparison')} are won and {lost} lost"
    if found["setting"].nunique() > 1:
        each = (
            "{}: {} and {}".format(setting, *numbers(rows))
            for setting, rows in found.groupby("setting", sort=False)
        )
        text += f" ({'; '.join(each)})"
    return text
