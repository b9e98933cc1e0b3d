"""What the study is asked of all data sets: unequal budgets, closed sets beside open ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from marginbench.reporting.compared_tables import LOWER_IS_BETTER, MEASURES
from marginbench.reporting.verdict_words import p_statement
from marginbench.reporting.verdicts import BETTER, WORSE, verdicts
from marginbench.text import count

from .study_results import Measured, columns_of


def fewer_trials(found: Sequence[Measured]) -> str:
    """How often heads with all trials beat softmax with all trials, and with few."""
    counts = {"all": 0, "few": 0}
    of, changed = 0, []
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
        counts["all"] += int((full == BETTER).sum())
        counts["few"] += int((few == BETTER).sum())
        of += len(full)
        changed += [
            f"{key[2]} on {key[0]} ({MEASURES[key[1]]}): {full[key]} → {few[key]}"
            for key in full.index
            if key in few.index and full[key] != few[key]
        ]
    text = (
        "Earlier comparisons gave softmax a few trials and a margin head many. With softmax chosen "
        f"from its first three trials, and the others from sixteen as above, "
        f"{counts['few']} of {of} comparisons over ten seeds are won against softmax; with sixteen "
        f"trials for both, {counts['all']}."
    )
    if changed:
        text += " Verdicts that differ: " + "; ".join(changed) + "."
    return text


def closed_and_open(frame: pd.DataFrame, decided: pd.DataFrame) -> str:
    """What heads win on closed and on open sets, and the rank correlation between the two.

    Args:
        frame: of all data sets.
        decided: its verdicts.
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
                lines.append(
                    f"- {first[0]} and {second[0]} ({MEASURES[second[1]]}): Spearman's ρ "
                    f"{rho.statistic:+.2f}, {count(len(both), 'head')}, {p_statement(rho.pvalue)}"
                )
    if not lines:
        return "No closed and open set are both whole yet."
    return (
        f"Against softmax, {_wins(decided, 'test_error', 'in test error on closed sets')}, and "
        f"{_wins(decided, 'verification_accuracy', 'in verification on open ones')}. Whether the "
        "heads that err least on classes they know are those that do best on classes they do not: "
        "rank correlation of the heads' means, +1 if the order is the same.\n\n" + "\n".join(lines)
    )


def _wins(decided: pd.DataFrame, measure: str, where: str) -> str:
    """Of a measure: "11 of 13 comparisons are won and 2 lost in ...", and on each data set."""

    def won_and_lost(rows: pd.DataFrame) -> tuple[int, int]:
        return int((rows["verdict"] == BETTER).sum()), int((rows["verdict"] == WORSE).sum())

    found = decided[decided["measure"] == measure]
    won, lost = won_and_lost(found)
    text = f"{won} of {count(len(found), 'comparison')} are won and {lost} lost {where}"
    if found["setting"].nunique() > 1:
        each = (
            "{}: {} and {}".format(setting, *won_and_lost(rows))
            for setting, rows in found.groupby("setting", sort=False)
        )
        text += f" ({'; '.join(each)})"
    return text
