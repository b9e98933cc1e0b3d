"""Open-set verification: are two images of one class, of classes never trained on?"""

from __future__ import annotations

import pandas as pd

from marginbench.comparison_table import ComparedRow, compare
from marginbench.drawing import new_figure
from marginbench.results import finished_runs, settings
from marginbench.sections import Picture, SectionContent, Table, section
from marginbench.wording import slug


@section("verification", title="Open-set verification", order=50)
def verification(results: pd.DataFrame) -> SectionContent:
    """For every setting with verification pairs: accuracy a head, as table and figure."""
    tables, pictures = [], []
    for name, rows in settings(results):
        done = finished_runs(rows).dropna(subset=["verification_accuracy"])
        if done.empty:
            continue
        compared = compare(rows, "verification_accuracy")
        of = done.iloc[0]["verification_of"]
        caption = (
            f"{name}: accuracy on {of}, cosine of the features; 10 folds as in LFW's protocol: "
            "the threshold that is best on nine folds is applied to the tenth. Mean ± standard "
            "deviation over seeds of the mean over folds; the folds' standard error is that of "
            "one run, averaged over seeds."
        )
        frame = pd.DataFrame([_cells(row, done) for row in compared])
        tables.append(Table(f"verification-{slug(name)}", caption, frame))
        pictures.append(_picture(name, compared, done))
    return SectionContent(tables=tables, pictures=pictures)


def _cells(row: ComparedRow, done: pd.DataFrame) -> dict[str, str]:
    values = pd.Series(row.test_errors)
    spread = f" ± {100 * values.std():.2f}" if len(values) > 1 else ""
    errors = done.loc[done["label"] == row.label, "verification_standard_error"].astype(float)
    difference = "baseline" if row.is_baseline else "–"
    if row.mean_difference is not None:
        mark = " *" if row.significant else ""
        difference = f"{100 * row.mean_difference:+.2f}{mark}"
    return {
        "head": row.label,
        "accuracy %": f"{100 * values.mean():.2f}{spread}" if len(values) else "–",
        "standard error of folds": f"{100 * errors.mean():.2f}" if len(errors) else "–",
        "seeds": row.seed_count,
        "difference": difference,
        "p (Holm)": "" if row.p_value is None else f"{row.p_value:.3f}",
    }


def _picture(name: str, compared: list[ComparedRow], done: pd.DataFrame) -> Picture:
    shown = [row for row in compared if row.test_errors]
    figure, (axis,) = new_figure(1, 1, width=6.4, height=0.32 * len(shown) + 1.1)
    for position, row in enumerate(shown):
        values = [100 * value for value in row.test_errors]
        colour = "tab:gray" if row.is_baseline else "tab:blue"
        axis.scatter(values, [position] * len(values), s=18, color=colour, alpha=0.5, linewidths=0)
        axis.scatter(sum(values) / len(values), position, s=60, marker="|", color=colour)
    axis.set_yticks(range(len(shown)), [row.label for row in shown])
    axis.invert_yaxis()
    axis.set_xlabel("verification accuracy (%)")
    caption = (
        f"{name}: verification accuracy, a dot a seed, a bar at the mean; the baseline in grey."
    )
    return Picture(f"verification-{slug(name)}", caption, figure)
