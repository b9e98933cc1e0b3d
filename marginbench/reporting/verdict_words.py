"""A verdict in words: sentences to quote, and the short forms that stand in tables."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from marginbench.reporting.fitting import NOT_FITTED, training_errors
from marginbench.reporting.power import MOST_SEEDS
from marginbench.reporting.significance import LEVEL
from marginbench.reporting.verdicts import (
    BETTER,
    DIVERGED,
    EQUAL,
    NO_RESULT,
    NOT_DECIDED,
    UNSTABLE,
    WORSE,
)
from marginbench.text import count


def sentence(row: Any) -> str:
    """To quote: "arcface is better than softmax by 0.85 points [0.56, 1.13], 10 seeds".

    Args:
        row: of :func:`marginbench.reporting.verdicts.verdicts`, as ``itertuples`` gives it.
    """
    seeds = count(int(row.seeds), "seed")
    if row.verdict in (BETTER, WORSE):
        gain = 1 if (row.difference > 0) else -1
        ends = sorted(100 * gain * end for end in (row.low, row.high))
        text = (
            f"{row.label} is {row.verdict} than {row.baseline} by {100 * abs(row.difference):.2f} "
            f"points [{ends[0]:.2f}, {ends[1]:.2f}], {seeds}"
        )
    elif row.verdict == EQUAL:
        text = (
            f"{row.label} equals {row.baseline} within ±{100 * row.equal_within:.2f} points: "
            f"difference {_signed(row.difference)}, corrected interval "
            f"[{_signed(row.corrected_low)}, {_signed(row.corrected_high)}], {seeds}"
        )
    elif row.verdict == DIVERGED:
        return f"{row.label} diverged in all runs that ended, {count(row.diverged, 'seed')}"
    elif row.verdict == UNSTABLE:
        text = f"{row.label} is unstable against {row.baseline}: {diverged_text(row)}"
        if row.seeds:
            text += f"; difference over the other {seeds} {difference_text(row)} points"
        return text + _fitted(row)
    elif row.verdict == NO_RESULT or not row.seeds:
        text = f"{row.label} has no seed in common with {row.baseline} yet"
    else:
        text = (
            f"{row.label} is not decided against {row.baseline}: difference "
            f"{difference_text(row)} points, {seeds}; {_outlook(row)}"
        )
    if row.diverged or row.baseline_diverged:
        text += f"; {diverged_text(row)}, which counts in P(better), not in the difference"
    return text + _fitted(row)


def short_verdict(row: Any) -> str:
    """The verdict as a table shows it: "better", "not decided: about 9 seeds more"."""
    text = row.verdict
    if row.verdict == NOT_DECIDED and not math.isnan(row.more_seeds):
        text += f": {_more(row.more_seeds)}"
    elif row.verdict == UNSTABLE:
        text += f": {diverged_text(row)}"
    return f"{text} ({NOT_FITTED})" if row.not_fitted else text


def verdicts_by_label(found: pd.DataFrame, setting: str, measure: str) -> dict[str, Any]:
    """The verdicts of one table by the heads' labels."""
    own = found[(found["setting"] == setting) & (found["measure"] == measure)]
    return {row.label: row for row in own.itertuples()}


def verdict_cells(label: str, is_baseline: bool, known: Mapping[str, Any]) -> dict[str, str]:
    """The verdict, the difference to the baseline and the corrected p-value of a table's row.

    Args:
        label: of the row's head.
        is_baseline: whether it is the baseline.
        known: see :func:`verdicts_by_label`.
    """
    found = known.get(label)
    verdict, difference, p_value = "–", "–", ""
    if is_baseline:
        marked = any(row.baseline_not_fitted for row in known.values())
        verdict, difference = f"baseline ({NOT_FITTED})" if marked else "baseline", ""
    elif found:
        verdict, difference = short_verdict(found), difference_text(found)
        p_value = p_text(found.p_corrected)
    return {"verdict": verdict, "difference (points)": difference, "p (Holm)": p_value}


def diverged_text(row: Any) -> str:
    """How many runs diverged: "5 of 10 diverged, softmax 1", "softmax diverged in 1 of 10"."""
    if not row.diverged:
        return f"{row.baseline} diverged in {row.baseline_diverged} of {row.asked}"
    text = f"{row.diverged} of {row.asked} diverged"
    return text + (f", {row.baseline} {row.baseline_diverged}" if row.baseline_diverged else "")


def difference_text(row: Any) -> str:
    """In percentage points, with its own 95 % interval where there is one; "–" without seeds."""
    if math.isnan(row.difference):
        return "–"
    text = _signed(row.difference)
    if not math.isnan(row.low):
        text += f" [{_signed(row.low)}, {_signed(row.high)}]"
    return text


def chance_text(row: Any) -> str:
    """P(A > B) with its interval: "0.90 [0.55, 1.00]"; "–" without seeds.

    "1.00 [0.29, 1.00], few seeds" where a clear share may still be chance.
    """
    share, low, high = row.probability_better, row.probability_low, row.probability_high
    if math.isnan(share):
        return "–"
    few = ", few seeds" if low <= 0.5 <= high and abs(share - 0.5) >= 0.25 else ""
    return f"{share:.2f} [{low:.2f}, {high:.2f}]{few}"


def p_text(p_value: float) -> str:
    """Three decimals, and "< 0.001"; nothing where it is not there."""
    if math.isnan(p_value):
        return ""
    return "< 0.001" if p_value < 0.0005 else f"{p_value:.3f}"


def p_statement(p_value: float) -> str:
    """As a sentence has it: "p = 0.014", "p < 0.001"."""
    text = p_text(p_value)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def _fitted(row: Any) -> str:
    return f"; {NOT_FITTED} its training images: {training_errors(row)}" if row.not_fitted else ""


def _outlook(row: Any) -> str:
    if not math.isnan(row.more_seeds):
        text = f"{_more(row.more_seeds)} would decide a difference like this"
        if row.equal_within and row.equal_within > abs(row.difference):
            text += f", or that it lies within ±{100 * row.equal_within:.2f}"
    elif row.seeds > 1:
        text = "it is the same in all seeds, which tells nothing of its spread"
    else:
        text = "one seed tells nothing of its spread"
        if not math.isnan(row.p_images):
            differ = "differ" if row.p_images < LEVEL else "do not differ"
            p = p_statement(row.p_images)
            text += f" (on these test images the two runs {differ}: McNemar, {p})"
    if row.looks_left:
        text += f"; {count(int(row.looks_left), 'planned look')} to come"
    elif not math.isnan(row.look):
        text += f"; all planned looks are taken, {int(row.max_seeds)} seeds at most"
    return text


def _more(seeds: float) -> str:
    if math.isinf(seeds):
        return f"more than {MOST_SEEDS:,} seeds"
    return f"about {count(int(seeds), 'seed')} more"


def _signed(fraction: float) -> str:
    return f"{100 * fraction:+.2f}"
