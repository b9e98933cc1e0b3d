"""Is a head better than the baseline, worse, equal, or not decided, and by how many seeds more?

:func:`verdicts` makes one frame of it, from which tables, sentences and the forest plot are drawn.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pandas as pd

from marginbench.reporting.compared_tables import ComparedTable, compared_tables, with_baseline
from marginbench.reporting.decisions import ONE_LEVEL, Decision, Look, decide, unless_unstable
from marginbench.reporting.fitting import training
from marginbench.reporting.paired_seeds import PairedSeeds, Seeds
from marginbench.reporting.power import more_seeds
from marginbench.reporting.proportions import chance_of_winning
from marginbench.reporting.same_images import same_images_p_value
from marginbench.reporting.significance import LEVEL, mean_interval, shows_spread
from marginbench.runs.cell_status import FINISHED, State
from marginbench.runs.seed_plan import SeedPlan

BETTER, WORSE, EQUAL, NOT_DECIDED = "better", "worse", "equal", "not decided"
UNSTABLE, DIVERGED, NO_RESULT = "unstable", "diverged", "no result"
VERDICTS = (BETTER, WORSE, EQUAL, NOT_DECIDED, UNSTABLE, DIVERGED, NO_RESULT)

COLUMNS = [
    "setting",
    "measure",
    "label",
    "head",
    "parameters",
    "baseline",
    "verdict",
    "difference",
    "low",
    "high",
    "corrected_low",
    "corrected_high",
    "value",
    "baseline_value",
    "seeds",
    "asked",
    "diverged",
    "baseline_diverged",
    "train_error",
    "baseline_train_error",
    "not_fitted",
    "baseline_not_fitted",
    "more_seeds",
    "p",
    "p_corrected",
    "compared_heads",
    "probability_better",
    "probability_low",
    "probability_high",
    "p_images",
    "equal_within",
    "lower_is_better",
    "look",
    "looks_left",
    "max_seeds",
    "decides",
    "comparisons",
]


def verdicts(results: pd.DataFrame, against: str | None = None) -> pd.DataFrame:
    """Every head of every setting against the baseline, by the seeds that both finished.

    Args:
        results: see :func:`marginbench.runs.results.results`.
        against: compare with this head instead, see
            :func:`marginbench.reporting.compared_tables.with_baseline`.

    Returns:
        One row a setting, measure and head other than the baseline, in the suite's order; none for
        a setting without the baseline. Fractions, not percent. What is not there is NaN.

        - setting: its name; measure: of :data:`marginbench.reporting.compared_tables.MEASURES`.
        - label, head, parameters: the head; baseline: the label of what it is compared with.
        - verdict: "better" or "worse" where Holm's corrected paired t-test bears a difference,
          "equal" where the corrected interval lies inside ±``equal_within``, else "not decided";
          "unstable" in place of these if the head diverged in more seeds than the baseline and is
          not worse, or the baseline in more seeds than a head that is worse or equal;
          "diverged" where all its runs that ended did, "no result" where none has ended.
        - difference: mean over seeds of the head's measure minus the baseline's, so that of errors
          a negative one is a gain (``lower_is_better``); low, high: its own 95 % interval;
          corrected_low, corrected_high: the interval at 1 − 5 %/``compared_heads``, of the look
          that decided if there are several. NaN where all seeds have the same difference.
        - value, baseline_value: means over the same seeds.
        - seeds: that both finished; asked: of the head, diverged: of these; baseline_diverged: of
          the baseline's, where the head has ended.
        - train_error, baseline_train_error, not_fitted, baseline_not_fitted: see
          :func:`marginbench.reporting.fitting.training`.
        - more_seeds: of an undecided head, how many seeds more would decide with a chance of 80 %
          if the mean and the spread seen are true; infinity above 10,000; NaN where the seeds show
          no spread, or where the verdict is another.
        - p, p_corrected: of the paired t-test, by itself and corrected over heads and looks.
        - probability_better: P(A > B), the chance that one run beats the paired one of the
          baseline, with its 95 % interval; a diverged run loses against a finished one.
        - p_images: McNemar's test of two single runs (one seed) on the test images; NaN of more
          seeds, and of old run folders, which do not keep the answers.
        - equal_within: δ.
        - look: seeds at the look that decided, or at the last one; looks_left: planned and not yet
          taken; max_seeds: of the plan. NaN, 0 and NaN where the number of seeds was fixed.
        - decides: whether seeds are added by this measure; comparisons: of the cells.

    Raises:
        UserError: ``against`` is no head of the frame.
    """
    frame = results if against is None else with_baseline(results, against)
    rows = [
        row
        for table in compared_tables(frame)
        for row in _rows_of_table(table, frame[frame["comparison"].isin(table.comparisons)])
    ]
    made = pd.DataFrame(rows, columns=COLUMNS)
    numbers = {"more_seeds": float, "p_images": float, "look": float, "max_seeds": float}
    return made.astype(numbers | {"equal_within": float})


def plan_of(results: pd.DataFrame) -> SeedPlan | None:
    """The plan of looks that a results frame carries."""
    planned = results.dropna(subset=["max_seeds"])
    if planned.empty:
        return None
    row = planned.iloc[0]
    return SeedPlan(int(row["max_seeds"]), row["spending"], int(row["first_look"]))


def _within(results: pd.DataFrame) -> float | None:
    known = results["equal_within"].dropna()
    return float(known.iloc[0]) if len(known) else None


def _rows_of_table(table: ComparedTable, results: pd.DataFrame) -> Iterable[dict[str, Any]]:
    """The rows of one table; ``results`` are those of its cells."""
    within, plan = _within(results), plan_of(results)
    groups = dict(iter(table.rows.groupby("label", sort=False)))
    baseline = next((label for label, rows in groups.items() if rows["is_baseline"].any()), None)
    if baseline is None:
        return
    known = {label: finished_values(rows) for label, rows in groups.items()}
    others = [label for label in groups if label != baseline]
    heads = results.drop_duplicates("label").set_index("label")[["head", "head_parameters"]]
    seeds = {label: Seeds.of(groups[label], known[label]) for label in groups}
    pairs = {label: PairedSeeds(seeds[label], seeds[baseline]) for label in others}
    fitted = training(results, others, baseline)
    sign = -1 if table.lower_is_better else 1
    if plan is not None and len(groups[baseline]) < plan.looks[0]:
        # Its seeds are not the plan's: the suite gives it fewer, whatever it is asked for.
        plan = None
    if plan is None:
        looks = [_look(pairs, sign)]
        decisions = decide(looks, ONE_LEVEL, within)
        tested = sum(shows_spread(look.gains) for look in looks[0].values())
    else:
        looks = [_look(pairs, sign, below) for below in plan.looks]
        decisions = decide(looks, plan.levels(LEVEL), within, len(others))
        tested = len(others)
    for label in others:
        decision = decisions[label]
        states = groups[label]["state"]
        row = _numbers(pairs[label], sign, decision, within, plan)
        yield row | {
            "setting": table.setting,
            "measure": table.measure,
            "label": label,
            "head": heads.at[label, "head"],
            "parameters": heads.at[label, "head_parameters"],
            "baseline": baseline,
            "verdict": _verdict(decision, states, pairs[label]),
            "asked": len(states),
            "diverged": pairs[label].diverged,
            "baseline_diverged": pairs[label].baseline_diverged,
            **fitted.loc[label],
            "compared_heads": tested,
            "p_images": same_images_p_value(groups[label], groups[baseline], pairs[label].values),
            "equal_within": within,
            "lower_is_better": table.lower_is_better,
            "max_seeds": plan.max_seeds if plan else None,
            "decides": table.decides,
            "comparisons": table.comparisons,
        }


def finished_values(rows: pd.DataFrame) -> dict[int, float]:
    """Value by seed of the rows that are done and have one.

    Args:
        rows: of one head of a table, one a seed (:func:`compared_tables` makes sure of it).

    Raises:
        ValueError: a seed has two values.
    """
    done = rows[rows["state"] == State.DONE.value].dropna(subset=["value"])
    if not done["seed"].is_unique:
        raise ValueError(f"a seed of {rows['label'].iloc[0]!r} has two values")
    return dict(zip(done["seed"], done["value"].astype(float), strict=True))


def _look(pairs: dict[str, PairedSeeds], sign: int, seeds: int | None = None) -> dict[str, Look]:
    """Every head with the seeds below a number, and whether they all came to an end.

    Without a number, with all that have ended.
    """
    wanted = frozenset(range(seeds or 0))
    found = {
        label: one if seeds is None else replace(one, below=seeds) for label, one in pairs.items()
    }
    return {
        label: Look(
            one.gains(sign),
            wanted <= one.own.ended & one.other.ended,
            one.diverged - one.baseline_diverged,
        )
        for label, one in found.items()
    }


def _numbers(
    paired: PairedSeeds,
    sign: int,
    decision: Decision,
    within: float | None,
    plan: SeedPlan | None,
) -> dict[str, Any]:
    pairs = paired.values
    differences = [own - other for _, own, other in pairs]
    low, high = mean_interval(differences)
    probability, probability_low, probability_high = chance_of_winning(paired.outcomes(sign))
    corrected = sorted(sign * end for end in decision.interval)
    looks = plan.looks if plan else ()
    taken = -1 if decision.look is None else decision.look
    return {
        "difference": _mean(differences),
        "low": low,
        "high": high,
        "corrected_low": corrected[0],
        "corrected_high": corrected[1],
        "value": _mean([own for _, own, _ in pairs]),
        "baseline_value": _mean([other for _, _, other in pairs]),
        "seeds": len(pairs),
        "more_seeds": more_seeds(differences, decision.level, within)
        if decision.verdict == NOT_DECIDED
        else math.nan,
        "p": decision.p_value,
        "p_corrected": decision.p_corrected,
        "probability_better": probability,
        "probability_low": probability_low,
        "probability_high": probability_high,
        "look": looks[taken] if looks and taken >= 0 else None,
        "looks_left": len(looks) - taken - 1 if decision.verdict == NOT_DECIDED and looks else 0,
    }


def _verdict(decision: Decision, states: pd.Series, paired: PairedSeeds) -> str:
    ended = states[states.isin([state.value for state in FINISHED])]
    if decision.verdict not in (NOT_DECIDED, UNSTABLE):
        # Runs beyond the look that decided may have diverged.
        return unless_unstable(decision.verdict, paired.diverged - paired.baseline_diverged)
    if ended.empty:
        return NO_RESULT
    return DIVERGED if (ended == State.DIVERGED.value).all() else decision.verdict


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan
