"""Whether the heads of one table differ from the baseline: by planned looks, corrected over heads.

A difference is claimed by the paired t-test with Holm's correction over the heads of the table;
equality within ±δ where the interval with Bonferroni's correction lies inside, which is two one-
sided tests. Either takes three seeds. A look spends its share of the level only, and a head whose
difference was claimed counts in no later correction. Then a false difference is in at most 5 % of
whole tables:

- Until the first false claim, all m heads without a difference are among those that Holm counts,
  so that each is tested at no more than a/m in a look that may spend a: a look makes a false claim
  with a chance of at most a. This holds however the heads depend on each other.
- The shares of the looks add up to the level, and the chance of any of several events is at most
  the sum of theirs, whatever was looked at in between and whoever was stopped because of it.
- Heads that were called equal still count in Holm's correction, for they may have no difference.

- A head that diverged in more seeds than the baseline is called neither better nor equal, and a
  baseline that diverged in more seeds bears neither "worse" nor "equal": the verdict is "unstable".
  This withholds claims and adds none.

A false "equal", of a head whose difference is δ or more, has by the same sum a chance of at most
half the level a table: each of its two one-sided tests is made at a/2H, H the heads of the table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from marginbench.reporting.significance import (
    LEVEL,
    mean_interval,
    paired_p_value,
)

FEWEST_SEEDS = 3
"""For a claim. Two differences that happen to be alike pass a t-test, whose one degree of freedom
rests on nothing but their being normal."""


@dataclass(frozen=True)
class Look:
    """One head at one look.

    Attributes:
        gains: by seed, of the seeds that head and baseline finished; positive where it is better.
        whole: whether every run that the look asks for has come to an end.
        diverged_more: in how many more seeds than the baseline the head diverged; negative if the
            baseline diverged in more.
    """

    gains: tuple[float, ...]
    whole: bool = True
    diverged_more: int = 0


@dataclass(frozen=True)
class Decision:
    """What was found for one head.

    Attributes:
        verdict: "better", "worse", "equal", "unstable", or "not decided".
        gains: of the look that decided, or of the last one.
        p_value: of the paired t-test at that look; NaN where it says nothing.
        p_corrected: may be compared with the level: over heads, and over looks; NaN likewise.
        interval: of the mean gain, corrected over heads and looks; NaN without spread.
        level: at which one more look would test it.
        look: its number, from 0; None where no look is whole.
    """

    verdict: str
    gains: tuple[float, ...]
    p_value: float
    p_corrected: float
    interval: tuple[float, float]
    level: float
    look: int | None


def decide(
    looks: Sequence[Mapping[str, Look]],
    levels: tuple[float, ...],
    equal_within: float | None = None,
    heads: int | None = None,
) -> dict[str, Decision]:
    """The decision on every head of a table.

    Args:
        looks: for each look, every head; of heads that were stopped, an unfinished one.
        levels: what each look may spend; their sum is the table's level.
        equal_within: δ; None claims no equality.
        heads: H, how many the correction is over; None for those that can be tested. Where there
            are several looks it must be all, for what can be tested differs between looks.
    """
    found: dict[str, Decision] = {}
    differing: set[str] = set()
    total = sum(levels)
    for number, (look, level) in enumerate(zip(looks, levels, strict=True)):
        open_heads = {
            label: state
            for label, state in look.items()
            if state.whole and (label not in found or found[label].verdict == "not decided")
        }
        p_values = {label: paired_p_value(state.gains) for label, state in open_heads.items()}
        tested = [label for label, p_value in p_values.items() if not math.isnan(p_value)]
        family = heads if heads is not None else len(tested)
        corrected = _step_down(p_values, tested, family - len(differing))
        enough = {label for label in tested if len(open_heads[label].gains) >= FEWEST_SEEDS}
        claimed = {label for label in enough if corrected[label] <= level}
        # The factor by which one that is not claimed was corrected: those that are left.
        left = max(1, family - len(differing) - len(claimed))
        next_level = levels[min(number + 1, len(levels) - 1)] / left
        for label, state in open_heads.items():
            interval = mean_interval(state.gains, 1 - level / max(family, 1))
            verdict = "not decided"
            if label in claimed:
                verdict = "better" if np.mean(state.gains) > 0 else "worse"
            elif (
                equal_within
                and label in enough
                and -equal_within < interval[0]
                and interval[1] < equal_within
            ):
                verdict = "equal"
            verdict = unless_unstable(verdict, state.diverged_more)
            p_corrected = min(1.0, corrected.get(label, math.nan) * total / level)
            found[label] = Decision(
                verdict,
                state.gains,
                p_values[label],
                p_corrected if label in corrected else math.nan,
                interval,
                next_level,
                number,
            )
        differing |= claimed
    nothing = (math.nan, math.nan)
    undecided = Decision("not decided", (), math.nan, math.nan, nothing, total, None)
    return {label: found.get(label, undecided) for look in looks for label in look}


def unless_unstable(verdict: str, diverged_more: int) -> str:
    """The verdict, or "unstable" where the seeds that diverged forbid it; see :class:`Look`."""
    by_head = diverged_more > 0 and verdict != "worse"
    by_baseline = diverged_more < 0 and verdict in ("worse", "equal")
    return "unstable" if by_head or by_baseline else verdict


ONE_LEVEL = (LEVEL,)
"""The levels of a single look: a number of seeds that was fixed before."""


def _step_down(p_values: Mapping[str, float], tested: list[str], count: int) -> dict[str, float]:
    """Holm's corrected p-values of the heads tested, of ``count`` that are not claimed yet."""
    corrected, highest = {}, 0.0
    for rank, label in enumerate(sorted(tested, key=p_values.__getitem__)):
        highest = max(highest, min(1.0, p_values[label] * max(1, count - rank)))
        corrected[label] = highest
    return corrected
