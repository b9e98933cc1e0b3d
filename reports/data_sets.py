"""Several suites in one report: ranks over data sets, critical differences, who beats whom."""

from __future__ import annotations

import pandas as pd

from marginbench import Figure, SectionContent, Table, section
from marginbench.reporting.drawing import literal, new_figure
from marginbench.reporting.fitting import NOT_FITTED
from marginbench.reporting.several_suites import (
    Ranking,
    mean_ranks,
    not_told_apart,
    other_parameters,
    pairwise_wilcoxon,
    ranking,
    wins_draws_losses,
)
from marginbench.reporting.verdict_words import p_text
from marginbench.reporting.verdicts import verdicts
from marginbench.text import count

LEAST = 2


@section("data-sets", title="Over all data sets", order=5)
def data_sets(results: pd.DataFrame) -> SectionContent:
    """Of several suites: ranks, tests of every two heads, wins, draws and losses."""
    if results["suite"].nunique() < LEAST:
        return SectionContent()
    ranked = ranking(results)
    errors = ranked.errors
    text = other_parameters(results)
    if ranked.left_out:
        names = ", ".join(ranked.left_out)
        text.append(f"Without a result on every data set, and not ranked: {names}.")
    tables = [_wins_table(wins_draws_losses(results))]
    if errors.shape[1] < LEAST or len(errors) < LEAST:
        text.append("Ranks need two heads with results on two data sets.")
        return SectionContent(text=text, tables=tables)
    ranks, pairs = mean_ranks(errors), pairwise_wilcoxon(errors)
    data = ranks.rename("mean rank").rename_axis("head").reset_index()
    caption = _diagram_caption(len(errors))
    figures = [
        Figure("critical-difference", caption, critical_difference_figure(ranks, pairs), data),
    ]
    return SectionContent(
        text=text,
        tables=[_ranks_table(ranked, ranks, verdicts(results)), _pairs_table(pairs), *tables],
        figures=figures,
    )


def critical_difference_figure(ranks: pd.Series, pairs: pd.DataFrame):  # noqa: ANN201
    """Heads along the axis of mean ranks; a bar joins those of which no two differ.

    Args:
        ranks, pairs: see :mod:`marginbench.reporting.several_suites`.

    Returns:
        A matplotlib figure.
    """
    groups = not_told_apart(ranks, pairs)
    half = -(-len(ranks) // 2)
    height = 1.2 + 0.26 * half + 0.16 * len(groups)
    figure, (axis,) = new_figure(1, 1, width=7.2, height=height)
    axis.grid(visible=False)
    for side in ("left", "right", "bottom"):
        axis.spines[side].set_visible(False)
    low, high = 1, max(len(ranks), 2)
    axis.set_xlim(low - 0.4 * (high - low), high + 0.4 * (high - low))
    axis.set_xticks(range(1, high + 1))
    axis.xaxis.set_ticks_position("top")
    axis.spines["top"].set_bounds(low, high)
    axis.set_yticks([])
    top = 0.6 + 0.6 * len(groups)
    axis.set_ylim(top + half + 0.5, 0)
    for place, (label, rank) in enumerate(ranks.items()):
        # The better half is named on the left, the rest on the right, the outermost lowest.
        better = place < half
        level = top + (place if better else len(ranks) - 1 - place) + 0.2
        end = low - 0.05 * (high - low) if better else high + 0.05 * (high - low)
        axis.plot([rank, rank, end], [0, level, level], color="black", linewidth=0.8)
        text = f"{literal(str(label))} ({rank:.2f})"
        axis.text(end, level, f" {text} ", ha="right" if better else "left", va="center", size=8)
    for number, group in enumerate(groups):
        level = 0.6 + 0.6 * number
        ends = [ranks[group[0]] - 0.04, ranks[group[-1]] + 0.04]
        axis.plot(ends, [level, level], color="tab:gray", linewidth=4, solid_capstyle="butt")
    return figure


def _diagram_caption(number: int) -> str:
    caption = (
        f"Mean rank of each head over {count(number, 'data set')}, 1 the best; a bar joins heads "
        "of which Wilcoxon's signed-rank test, Holm-corrected over all pairs, tells no two apart. "
        "Settings on the same images count as data sets of their own, though they are not "
        "independent."
    )
    least = 2 / 2**number
    if least > 0.05:
        caption += (
            f" With {number} data sets no p can be below {least:.3f}: none can be told apart, "
            "however clear it is; it takes six, and more after the correction."
        )
    return caption


def _ranks_table(ranked: Ranking, ranks: pd.Series, found: pd.DataFrame) -> Table:
    marks = {key: f" ({number} diverged)" for key, number in ranked.diverged.items()}
    for row in found[found["decides"]].itertuples():
        own = [(row.label, row.not_fitted), (row.baseline, row.baseline_not_fitted)]
        marks |= {(row.setting, label): f" ({NOT_FITTED})" for label, marked in own if marked}
    headings = {
        name: f"{name} ({ranked.seeds[name]})" if name in ranked.seeds else name
        for name in ranked.errors.index
    }
    frame = pd.DataFrame(
        {"head": label, "mean rank": f"{rank:.2f}"}
        | {
            heading: f"{100 * ranked.errors.at[name, label]:.2f}{marks.get((name, label), '')}"
            for name, heading in headings.items()
        }
        for label, rank in ranks.items()
    )
    caption = (
        "Mean rank over the data sets, and the mean error on each in percent (of verification, 100 "
        "minus the accuracy), over the seeds that all ranked heads have; a run that diverged "
        "counts as an answer by chance."
    )
    return Table("ranks", caption, frame)


def _pairs_table(pairs: pd.DataFrame) -> Table:
    ordered = pairs.sort_values(["p_corrected", "p"], kind="stable")
    frame = pd.DataFrame(
        {
            "head": row.first,
            "against": row.second,
            "median difference": f"{100 * row.difference:+.2f}",
            "p": p_text(row.p),
            "p (Holm)": p_text(row.p_corrected),
        }
        for row in ordered.itertuples()
    )
    caption = (
        "Every two heads over the data sets: median difference of the errors in percentage points, "
        "and Wilcoxon's signed-rank test."
    )
    return Table("pairs-over-data-sets", caption, frame)


def _wins_table(matrix: pd.DataFrame) -> Table:
    shown = matrix.map(
        lambda cell: "–" if not isinstance(cell, tuple) else "/".join(map(str, cell))
    )
    caption = (
        "On how many data sets the row's head is better / not told apart or equal / worse than the "
        "column's, by the verdicts over seeds, corrected over the heads compared with it. A head "
        "that diverged in more seeds has lost."
    )
    frame = shown.rename_axis("head").reset_index()
    return Table("wins-draws-losses", caption, frame)
