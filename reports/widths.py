"""One head in networks of several widths: errors against iteration, the paper's Fig. 7."""

from __future__ import annotations

from typing import Any

import pandas as pd
import seaborn as sns

from marginbench import Figure, SectionContent, Table, section
from marginbench.reporting.drawing import literal, new_figure, outside_legend
from marginbench.runs.cell_status import State
from marginbench.runs.conditions import (
    conditions_key,
    conditions_text,
    labels_of_frame,
    varying_conditions,
)
from marginbench.runs.results import finished_runs, history
from marginbench.runs.values_in_words import number_as_text
from marginbench.text import slug

WIDTH_FIELDS = [f"backbone.parameters.{name}" for name in ("filters", "width", "widths")]
PANELS = {"train_error": "Training error", "test_error": "Test error"}


@section("widths", title="Widths", order=25)
def widths(results: pd.DataFrame) -> SectionContent:
    """For every head that ran in networks which differ in width only: a figure and a table."""
    tables, figures = [], []
    # The cells of a comparison share one mapping: its text is made once.
    distinct = {id(one): one for one in results["conditions"]}
    networks = {number: conditions_key(one, *WIDTH_FIELDS) for number, one in distinct.items()}
    known = results.assign(
        width=[_width(p) for p in results["backbone_parameters"]],
        network=[networks[id(one)] for one in results["conditions"]],
    )
    groups = [rows for _, rows in known.groupby(["network", "head_key"], sort=False)]
    groups = [rows for rows in groups if rows["width"].nunique() > 1]
    # What distinguishes the figures.
    several = pd.concat([known.iloc[:0], *(rows.iloc[:1] for rows in groups)])
    varying = [field for field in varying_conditions(several) if field not in WIDTH_FIELDS]
    labels = labels_of_frame(several, comparison="")
    for label, rows in zip(labels, groups, strict=True):
        first = rows.iloc[0]
        parts = [first["data"], first["backbone"], label]
        name = ", ".join([*parts, *filter(None, [conditions_text(first["conditions"], varying)])])
        tables.append(_table(name, rows))
        done = finished_runs(rows)
        if not done.empty:
            figures.append(_figure(name, done))
    return SectionContent(tables=tables, figures=figures)


def _width(parameters: dict[str, Any]) -> str:
    filters = parameters.get("filters") or parameters.get("widths")
    if filters:
        return "/".join(str(number) for number in filters)
    return f"width {number_as_text(parameters['width'])}" if "width" in parameters else ""


def _figure(name: str, rows: pd.DataFrame) -> Figure:
    figure, axes = new_figure(1, 2, width=4.8, height=3.9)
    curves = history(rows).merge(rows[["key", "width"]], on="key")
    means = curves.groupby(["width", "iteration"], sort=False).mean(numeric_only=True)
    names = list(dict.fromkeys(rows["width"]))
    palette = dict(zip(names, sns.color_palette("viridis", len(names)), strict=True))
    for axis, (column, title) in zip(axes, PANELS.items(), strict=True):
        for width, colour in palette.items():
            curve = 100 * means.loc[width, column]
            axis.plot(curve.index, curve, color=colour, label=literal(width), linewidth=1.1)
        axis.set_title(title)
        axis.set_xlabel("iteration")
        axis.set_ylabel("error (%)")
        axis.set_ylim(bottom=0)
    handles, labels = axes[0].get_legend_handles_labels()
    outside_legend(figure, handles, labels, title="filters")
    seeds = rows.groupby("width").size()
    caption = (
        f"{name}: error against iteration at several numbers of filters, mean over {seeds.min()}"
        + (f" to {seeds.max()}" if seeds.max() != seeds.min() else "")
        + " finished run(s) each. In the form of Liu et al., ICML 2016, Fig. 7, of whose four "
        "networks the paper names one, 32/32/64/128."
    )
    data = means[list(PANELS)].reset_index()
    return Figure(f"widths-{slug(name)}", caption, figure, data)


def _table(name: str, rows: pd.DataFrame) -> Table:
    cells = []
    for width, group in rows.groupby("width", sort=False):
        done = finished_runs(group)
        train, test = (100 * done[f"{k}_error"].astype(float) for k in ("train", "test"))
        diverged = int((group["state"] == State.DIVERGED.value).sum())
        cells.append(
            {
                "filters": width,
                "test error %": _mean_and_deviation(test),
                "train error %": _mean_and_deviation(train),
                "gap": _mean_and_deviation(test - train),
                "seeds": (
                    str(len(done)) if len(done) == len(group) else f"{len(done)} of {len(group)}"
                )
                + (f", {diverged} diverged" if diverged else ""),
            }
        )
    caption = f"{name}: errors at the end by the number of filters, mean ± standard deviation."
    return Table(f"widths-{slug(name)}", caption, pd.DataFrame(cells))


def _mean_and_deviation(values: pd.Series) -> str:
    if values.empty:
        return "–"
    spread = f" ± {values.std():.2f}" if len(values) > 1 else ""
    return f"{values.mean():.2f}{spread}"
