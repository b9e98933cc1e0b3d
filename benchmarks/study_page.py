"""The page of the study: the answer first, in one to two screens; what it rests on is beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from marginbench.reporting.compared_tables import MEASURES
from marginbench.reporting.opening import points
from marginbench.reporting.several_suites import together
from marginbench.reporting.table_files import markdown
from marginbench.reporting.verdicts import (
    BETTER,
    DIVERGED,
    EQUAL,
    NOT_DECIDED,
    WORSE,
    verdicts,
)
from marginbench.text import count

from .study_answer import answer_figure, answer_table
from .study_details import NAME, figure_lines, over_data_sets, span, write_details
from .study_questions import (
    Replay,
    changed_verdicts,
    fewer_trials,
    rank_correlations,
    tuning_gains,
    won_and_lost,
)
from .study_results import Measured, asked, images_of, kept

SIGNIFICANT = 0.05
AGAIN = "again"
"""The folder, beside the page, of what a second search and its final runs gave."""
LIMITS = """\
- Small networks, few training images, short runs, two CPU cores: a margin may do other things to a
  large network on a million faces.
- One search a head. Its luck is in no interval, softmax's in none of the differences to it: the
  seeds are those of the final runs. A trial is one run; on the digits three; on MNIST and CIFAR-100
  one, and two more of a head's best four trials before one is chosen.
- Splits are drawn per seed from one set of images, so the intervals are of other images of the same
  kind. Omniglot's alphabets and LFW's people are fixed.
- An open set's search verifies a few classes of its own, two of six digits say: what is best for
  those need not be best for others.
- A range that is too narrow for a head holds it back; reports of the single suites name the values
  chosen at an edge. Learning-rate courses, batch size and augmentation were nobody's to choose.
"""


def write_page(found: Sequence[Measured], missing: Sequence[str], target: Path) -> Path:
    """Write README.md, details.md and their figures.

    Args:
        found: the data sets that are whole.
        missing: the names of the others.
        target: the folder.

    Returns:
        The page.
    """
    target.mkdir(parents=True, exist_ok=True)
    found = [asked(one) for one in found]
    frame = together({one.suite: one.tuned for one in found})
    decided = verdicts(frame)
    decided = decided.assign(setting=decided["setting"].map(images_of))
    main = decided[decided["decides"]]
    gains, replay, orders = tuning_gains(found), fewer_trials(found), rank_correlations(frame)
    over, again = over_data_sets(frame), _again(decided, target)
    write_details(frame, decided, gains, replay, orders, over, target)
    parts = [
        "# Which margin wins, on equal terms?",
        "Every head had sixteen trials on images or classes that the final runs are not tested on; "
        "the values that did best there were run with ten seeds or more, each with a split of its "
        "own. Differences to tuned softmax in percentage points; verdicts by paired tests over "
        "seeds, Holm-corrected over the heads, in planned looks.",
        *([f"Not whole yet, and not here: {', '.join(missing)}."] if missing else []),
        "## The answer",
        "\n".join(_in_short(decided)),
        *figure_lines(answer_figure(main), target),
        markdown(answer_table(main)),
        f"A difference without a word is not decided. Every interval: [{NAME}]({NAME}).",
        *(["## Ranks over the data sets", *over.text] if over.figures else []),
        *(line for figure in over.figures for line in figure_lines(figure, target)),
        "## How it came about",
        "\n".join(
            [
                f"- **What tuning gave.** {_gains(gains)}",
                f"- **Had softmax had fewer trials.** {_replayed(replay)}",
                f"- **How many seeds it took.** {_seeds(main)}",
                f"- **Closed and open sets.** {_orders(decided, orders)}",
                *(f"- **Searched again.** {told}" for told in again),
            ]
        ),
        "## What it does not show",
        LIMITS,
        f"Every number: [{NAME}]({NAME}). What each head could choose from, and what it chose: "
        + ", ".join(f"[{one.suite}](searches/{one.suite}.md)" for one in found)
        + ". All runs: [runs/](runs). Made by `make study`; "
        "`python -m benchmarks.study --page-only` makes the page anew from these files.",
    ]
    page = target / "README.md"
    page.write_text("\n\n".join(part.rstrip() for part in parts) + "\n", encoding="utf-8")
    return page


def _in_short(decided: pd.DataFrame) -> list[str]:
    """Of closed and of open sets: on how many of them each head is better, and worse."""
    lines = []
    for kind, measure in (
        ("Closed sets", "test_error"),
        ("Open sets", "verification_accuracy"),
        ("Open sets", "map_at_r"),
    ):
        rows = decided[decided["measure"] == measure]
        if rows.empty:
            continue
        better, worse = (
            _numbers(rows.loc[rows["verdict"] == verdict, "label"]) for verdict in (BETTER, WORSE)
        )
        sets = count(rows["setting"].nunique(), "data set")
        lines.append(
            f"- **{kind}** ({sets}, {MEASURES[measure]}): better than softmax {better}. "
            f"Worse {worse}."
        )
    return lines


def _numbers(labels: pd.Series) -> str:
    """Of labels that stand once for each data set: "on 3: arcface, magface; on 1: hinge"."""
    numbers = labels.value_counts(sort=False)
    return (
        "; ".join(
            f"on {number}: {', '.join(sorted(found.index))}"
            for number, found in sorted(numbers.groupby(numbers), reverse=True)
        )
        or "on none"
    )


def _gains(gains: pd.DataFrame) -> str:
    """How often tuning helped on the test, how often it harmed, and where most."""
    known = gains[gains["change"].notna()]
    gained, lost = known[known["gained"]], known[known["lost"]]
    text = (
        f"Against a head's own values, {len(gained)} of {count(len(known), 'comparison')} gain on "
        f"the test and {len(lost)} lose (95 % intervals, not corrected); softmax gains in "
        f"{int((gained['head'] == 'softmax').sum())} of {int((known['head'] == 'softmax').sum())}."
    )
    if gained.empty:
        return text
    most = gained.loc[gained["change"].abs().sort_values(ascending=False, kind="stable").index]
    told = (
        f"{row.head} on {row.setting} ({MEASURES[row.measure]}) "
        f"{points(row.change, row.low, row.high)}"
        for row in most.head(2).itertuples()
    )
    return f"{text} Most: {', '.join(told)}."


def _replayed(replay: Replay) -> str:
    text = (
        "Earlier comparisons gave softmax a few trials and a margin head many. With softmax chosen "
        f"from its first three trials, and the others from sixteen, {replay.won_with_few} of "
        f"{replay.comparisons} comparisons over ten seeds are won against it; with sixteen "
        f"trials for both, {replay.won_with_all}."
    )
    return text + (f" Verdicts that differ: {len(replay.changed)}." if replay.changed else "")


def _seeds(main: pd.DataFrame) -> str:
    known = main.loc[main["verdict"].isin([BETTER, WORSE, EQUAL]), "seeds"]
    undecided = main.loc[main["verdict"] == NOT_DECIDED, "seeds"]
    text = f"{len(known)} of {count(len(main), 'comparison')} decided"
    if len(known):
        text += f", with {span(known)} seeds, half of them with at most {known.median():.0f}"
    if len(undecided):
        text += f"; {len(undecided)} not, after {span(undecided)}"
    diverged = int((main["verdict"] == DIVERGED).sum())
    return f"{text}; {diverged} diverged." if diverged else f"{text}."


def _orders(decided: pd.DataFrame, orders: pd.DataFrame) -> str:
    if orders.empty:
        return "No closed and open set are both whole yet."
    apart = int((orders["p_corrected"] < SIGNIFICANT).sum())
    low, high = (f"{value:+.2f}".replace("-", "−") for value in orders["rho"].agg(["min", "max"]))
    return (
        f"In test error on closed sets {won_and_lost(decided, 'test_error')}; in verification on "
        f"open ones {won_and_lost(decided, 'verification_accuracy')}. The heads that err least on "
        "classes they know need not be those that do best on classes they do not: the rank "
        f"correlation (Spearman's ρ) of a closed with an open set is {low} to {high}; told apart "
        f"from 0 after Holm's correction: {apart} of {len(orders)}."
    )


def _again(decided: pd.DataFrame, target: Path) -> list[str]:
    """A sentence for each data set of which a second search is kept."""
    told = []
    for file in sorted((target / AGAIN).glob("*.csv")):
        changes = changed_verdicts(decided, verdicts(asked(kept(file)).tuned))
        if changes.empty:
            continue
        changed = changes[changes["before"] != changes["after"]]
        each = (
            f"{row.label} {row.before} {_points(row.difference)} → {row.after} "
            f"{_points(row.difference_after)}"
            for row in changed.itertuples()
        )
        told.append(
            f"{changes['setting'].iloc[0]}, search and final runs once more from "
            f"nothing ([runs]({AGAIN}/{file.name}), [search]({AGAIN}/{file.stem}.md)): "
            f"{len(changes) - len(changed)} of {count(len(changes), 'verdict')} the same"
            + (f"; {', '.join(each)}." if len(changed) else ".")
        )
    return told


def _points(difference: float) -> str:
    return points(difference, math.nan, math.nan)
