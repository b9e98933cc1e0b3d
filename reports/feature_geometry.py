"""What a margin does to the features: angles between them, norms, calibration, gap against m."""

from __future__ import annotations

import pandas as pd

from marginbench import Figure, SectionContent, Table, section
from marginbench.reporting.drawing import label_styles, literal, new_figure, outside_legend
from marginbench.runs.conditions import LabelledHead, head_labels, settings
from marginbench.runs.results import finished_runs
from marginbench.runs.values_in_words import exact
from marginbench.text import count, slug

# Column, heading, factor, decimals.
SHOWN = (
    ("angle_to_centre", "to own centre °", 1, 1),
    ("angle_between_centres", "between centres °", 1, 1),
    ("angle_to_nearest_centre", "to nearest centre °", 1, 1),
    ("compactness_ratio", "ratio", 1, 3),
    ("feature_norm", "norm", 1, 2),
    ("feature_norm_deviation", "its deviation", 1, 2),
    ("calibration_error", "ECE %", 100, 2),
    ("scaled_calibration_error", "ECE % scaled", 100, 2),
    ("temperature", "temperature", 1, 2),
)


@section("geometry", title="What the margin does to features", order=45)
def geometry(results: pd.DataFrame) -> SectionContent:
    """For every setting a table of angles, norms and calibration; and the gap against m."""
    text, tables, figures = [], [], []
    for name, rows in settings(results):
        done = finished_runs(rows).dropna(subset=["test_error"])
        known = done.dropna(subset=["feature_norm"])
        if len(known) < len(done):
            text.append(
                f"{name}: {count(len(done) - len(known), 'finished run')} of {len(done)} of an "
                "earlier version did not measure the features, and are not counted here; `run "
                "--retrain-stale` measures them."
            )
        if len(known):
            tables.append(_table(name, known))
        gaps = gaps_against_m(done)
        if len(gaps):
            figures.append(_gap_figure(name, gaps))
    return SectionContent(text=text, tables=tables, figures=figures)


def gaps_against_m(done: pd.DataFrame) -> pd.DataFrame:
    """Test minus training error by head and m, of heads that ran with two values of m or more.

    Heads that differ in more than m are told apart by the parameters in which they do.

    Args:
        done: finished rows of one setting.

    Returns:
        Columns head, m, gap (mean over seeds, a fraction), deviation (over seeds; NaN of one) and
        seeds.
    """
    gaps = done["test_error"].astype(float) - done["train_error"].astype(float)
    heads = [
        LabelledHead("", exact([name, rest]), name, rest)
        for name, parameters in zip(done["head"], done["head_parameters"], strict=True)
        for rest in [{k: value for k, value in parameters.items() if k != "m"}]
    ]
    margins = [_m(parameters) for parameters in done["head_parameters"]]
    rows = done.assign(head=head_labels(heads), m=margins, gap=gaps)
    found = rows.groupby(["head", "m"], sort=True)["gap"].agg(["mean", "std", "count"])
    found = found.set_axis(["gap", "deviation", "seeds"], axis=1).reset_index()
    several = found.groupby("head")["m"].transform("size") > 1
    return found[several].reset_index(drop=True)


def _m(parameters: dict) -> float | None:
    m = parameters.get("m")
    return float(m) if isinstance(m, (int, float)) else None


def _table(name: str, known: pd.DataFrame) -> Table:
    rows = []
    for label, group in known.groupby("label", sort=False):
        cells = {"head": label}
        for column, heading, factor, digits in SHOWN:
            cells[heading] = _spread(factor * group[column].dropna().astype(float), digits)
        rows.append(cells | {"seeds": str(len(group))})
    caption = (
        f"{name}: test features. Mean angle of a feature to the mean direction of its class, of "
        "two classes' mean directions to each other, and to the nearest other; the ratio of the "
        "first to the second, the smaller the better told apart; lengths. ECE: the expected "
        "calibration error in 15 bins of the softmax of the logits, margin off, whatever the loss; "
        "hinge and binary losses do not train it to be a probability, so that between losses the "
        "scaled one compares: after temperature scaling, fitted on one half of the test images and "
        "applied to the other. Mean ± standard deviation over seeds."
    )
    return Table(f"geometry-{slug(name)}", caption, pd.DataFrame(rows))


def _spread(values: pd.Series, digits: int) -> str:
    if values.empty:
        return "–"
    spread = f" ± {values.std():.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{spread}"


def _gap_figure(name: str, gaps: pd.DataFrame) -> Figure:
    figure, (axis,) = new_figure(1, 1, width=5.6, height=3.6)
    styles = label_styles(gaps["head"])
    groups = list(gaps.groupby("head", sort=False))
    for number, (head, rows) in enumerate(groups):
        axis.errorbar(
            # Beside one another: heads of the same m would cover each other's bars.
            rows["m"] + 0.05 * (number - (len(groups) - 1) / 2),
            100 * rows["gap"],
            100 * rows["deviation"].fillna(0),
            color=styles[head].colour,
            linestyle=styles[head].dash,
            marker="o",
            markersize=4,
            capsize=3,
            label=literal(head),
        )
    axis.set_xlabel("m")
    axis.set_xticks(sorted(gaps["m"].unique()))
    axis.set_ylabel("gap: test − training error\n(percentage points)")
    outside_legend(figure, *axis.get_legend_handles_labels())
    caption = (
        f"{name}: overfitting against the margin, mean and standard deviation over seeds, of heads "
        "that ran with several m; what m means differs from head to head."
    )
    return Figure(f"gap-against-m-{slug(name)}", caption, figure, gaps)
