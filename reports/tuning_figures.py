"""Figures of a search: what more trials are worth, and the error against each parameter."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullLocator

from marginbench import Figure
from marginbench.plugins.search_ranges import Choice, LogUniform
from marginbench.reporting.drawing import (
    clear_unused,
    label_styles,
    literal,
    new_figure,
    outside_legend,
    use_error_scale,
)
from marginbench.reporting.search_curves import expected_best
from marginbench.runs.search_results import SearchResult
from marginbench.text import slug

PANELS_A_ROW = 3
PALE = 0.35


def budget_figure(parts: list[tuple[str, list[SearchResult]]]) -> Figure:
    """The expected best validation error against the number of trials, a panel a setting.

    Args:
        parts: of each setting its name and its searches; in one at least a search is complete.
    """
    parts = [(name, found) for name, found in parts if any(own.is_complete for own in found)]
    columns = min(PANELS_A_ROW, len(parts))
    rows = -(-len(parts) // columns)
    figure, axes = new_figure(rows, columns, width=5.0, height=3.9)
    styles = label_styles(own.search.head for _, found in parts for own in found)
    data = []
    for axis, (name, found) in zip(axes, parts, strict=False):
        worst = _worst([_first_round(own) for own in found])
        for head in dict.fromkeys(own.search.head for own in found):
            curves = [
                expected_best(errors[0], errors[1:])
                for own in found
                if own.search.head == head and own.is_complete
                for errors in [_finite(_first_round(own), worst)]
            ]
            if not curves:
                continue
            mean = 100 * np.mean([[best.mean for best in curve] for curve in curves], axis=0)
            band = 100 * np.mean([[best.deviation for best in curve] for curve in curves], axis=0)
            number = np.arange(1, len(mean) + 1)
            style = styles[head]
            data += [
                {"setting": name, "head": head, "trials": trials, "mean": best, "deviation": spread}
                for trials, best, spread in zip(number, mean, band, strict=True)
            ]
            axis.plot(number, mean, color=style.colour, linestyle=style.dash, label=literal(head))
            low = np.maximum(mean - band, 0)
            axis.fill_between(number, low, mean + band, color=style.colour, alpha=0.08, linewidth=0)
        axis.set_title(literal(name))
        axis.set_xlabel("trials")
        axis.set_ylabel("validation error (%)")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    clear_unused(axes, len(parts))
    handles = {
        label: handle
        for axis in axes
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    outside_legend(figure, list(handles.values()), list(handles))
    caption = (
        "Expected lowest validation error against the number of trials (Dodge et al., EMNLP 2019): "
        "the first trial is the suite's own values, the others are drawn from those that were "
        "tried; the band is one standard deviation. Where lines cross, the budget decides which "
        "head is ahead. A trial that diverged counts as the worst one of its setting."
    )
    if any(own.search.finalists for _, found in parts for own in found):
        caption += " Errors are of a trial's first seed."
    return Figure("tuning-budget", caption, figure, pd.DataFrame(data))


def parameter_figure(name: str, found: list[SearchResult]) -> Figure:
    """Validation error against each parameter, a row a head, a column a parameter.

    Args:
        name: of the setting.
        found: its searches, one of which at least has a trial that ended.
    """
    found = [own for own in found if own.finished]
    heads = list(dict.fromkeys(own.search.head for own in found))
    columns = max(1, *(len(own.search.ranges) for own in found))
    figure, axes = new_figure(len(heads), columns, width=2.1, height=1.75)
    styles = label_styles(heads)
    worst = _worst([own.means for own in found])
    errors = [100 * error for own in found for error in _finite(own.means, worst)]
    # Errors of 0 have no position on a logarithmic axis.
    floor = min((error for error in errors if error > 0), default=1.0) / 2
    for row, head in enumerate(heads):
        panels = axes[row * columns : (row + 1) * columns]
        own = [one for one in found if one.search.head == head]
        parameters = list(own[0].search.parameters)
        for axis, parameter in zip(panels, parameters, strict=False):
            for one in own:
                _draw(axis, one, parameter, worst, floor, styles[head].colour)
            axis.set_xlabel(parameter.partition(".")[2], fontsize=8, labelpad=1)
            axis.tick_params(labelsize=7, pad=1)
            axis.grid(linewidth=0.5)
            axis.set_ylim(0.8 * floor, 1.3 * max([*errors, 2 * floor]))
            use_error_scale(axis)
        clear_unused(panels, len(parameters))
        panels[0].set_ylabel(f"{literal(head)}\nerror (%)", fontsize=8)
        panels[0].set_visible(True)
        for axis in panels[1:]:
            axis.tick_params(labelleft=False)
    caption = (
        f"{name}: validation error of each trial against each of its parameters. Filled: the "
        "choice; square: the suite's own values; cross: diverged, drawn at the worst error of the "
        "setting. Errors of 0 are drawn at the lower edge."
    )
    if any(own.search.finalists for own in found):
        caption += " Pale: the error is of one run."
    data = pd.DataFrame(
        {
            "head": own.search.head,
            "repeat": own.search.repeat,
            "trial": number,
            "parameter": parameter,
            "value": own.search.trials[number].values[parameter],
            "validation error": mean,
            "seeds": len(own.search.trial_seeds) if number in own.finalists else 1,
            "chosen": number == own.chosen,
        }
        for own in found
        for number, mean in enumerate(own.means)
        for parameter in own.search.parameters
    )
    return Figure(f"tuning-parameters-{slug(name)}", caption, figure, data)


def _draw(
    axis: Axes,
    own: SearchResult,
    parameter: str,
    worst: float,
    floor: float,
    colour: tuple[float, float, float],
) -> None:
    drawn = own.search.parameters[parameter]
    if isinstance(drawn, LogUniform):
        axis.set_xscale("log")
    for number, mean in enumerate(own.means):
        value = own.search.trials[number].values[parameter]
        at = drawn.position(value, own.search.own_value(parameter))
        if mean is None or at is None:
            continue
        position = drawn.values.index(value) if isinstance(drawn, Choice) else value
        diverged = math.isinf(mean)
        axis.plot(
            position,
            max(100 * (worst if diverged else mean), floor),
            marker="x" if diverged else "s" if number == 0 else "o",
            markersize=4.5,
            color=colour,
            markerfacecolor=colour if number == own.chosen else "white",
            linestyle="none",
            alpha=1.0 if number in own.finalists else PALE,
            zorder=3 if number == own.chosen else 2,
        )
    if isinstance(drawn, Choice):
        axis.set_xlim(-0.5, len(drawn.values) - 0.5)
        axis.set_xticks(range(len(drawn.values)), [literal(str(one)) for one in drawn.values])
    else:
        mine = own.search.own_value(parameter)
        low, high = drawn.ends(mine)
        # The suite's own value may lie outside.
        outside = [] if drawn.position(mine, mine) is None else [mine]
        around = [low, high, *outside]
        margin = 1.15 if isinstance(drawn, LogUniform) else 1.0
        axis.set_xlim(min(around) / margin, max(around) * margin)
        ticks = [drawn.at(position, mine) for position in (0.0, 0.5, 1.0)]
        axis.set_xticks(ticks, [f"{tick:.2g}" for tick in ticks])
        axis.xaxis.set_minor_locator(NullLocator())


def _worst(found: list[list[float | None]]) -> float:
    """The highest error that any trial ended with; 1 where none ended."""
    finite = [error for own in found for error in own if error is not None and error < math.inf]
    return max(finite, default=1.0)


def _first_round(own: SearchResult) -> list[float | None]:
    """The trials' errors by as many seeds each, which trials that are not finalists lack."""
    return own.means if own.search.finalists is None else own.first_errors


def _finite(errors: Sequence[float | None], worst: float) -> list[float]:
    """The errors of the trials that have one, the worst in position of infinity."""
    return [min(error, worst) for error in errors if error is not None]
