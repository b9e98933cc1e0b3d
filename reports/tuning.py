"""The search at an equal budget: what each head chose, where in its box, and what it gained."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from marginbench import SectionContent, Table, section
from marginbench.experiments.head_search import HeadSearch
from marginbench.plugins.search_ranges import Choice, Range
from marginbench.reporting.significance import mean_interval, shows_spread
from marginbench.runs.conditions import settings
from marginbench.runs.results import finished_runs
from marginbench.runs.search_results import SearchResult
from marginbench.text import count, percent, slug

from .tuning_figures import budget_figure, parameter_figure

EDGE = 0.05
"""A chosen value is at the edge if it is nearer to an end of its range than this share of it."""
GOES_BY = {
    "error": "the error on training images that are held out",
    "verification": "1 − accuracy on pairs of classes or people that are held out of training",
}


@section("tuning", title="Search at an equal budget", order=7)
def tuning(results: pd.DataFrame) -> SectionContent:
    """For every searched setting: defaults against tuned, the choices, and each parameter."""
    tables, figures, parts = [], [], []
    searched = results[[isinstance(found, SearchResult) for found in results["search"]]]
    for name, rows in settings(searched):
        found = _searches(rows)
        tables.append(_gains(name, rows, found))
        tables.append(_choices(name, found))
        if any(own.finished for own in found):
            figures.append(parameter_figure(name, found))
        parts.append((name, found))
    if any(own.is_complete for _, found in parts for own in found):
        figures.insert(0, budget_figure(parts))
    text = [_protocol([own for _, found in parts for own in found])] if parts else []
    return SectionContent(text=text, tables=tables, figures=figures)


def _searches(rows: pd.DataFrame) -> list[SearchResult]:
    """Of a setting, head by head, repeat by repeat."""
    found = {(own.search.head, own.search.repeat): own for own in rows["search"]}
    return list(found.values())


def _protocol(found: list[SearchResult]) -> str:
    first = found[0].search
    repeats = max(own.search.repeat for own in found) + 1
    trials = sorted({len(own.errors) for own in found})
    by = sorted({own.search.by for own in found})
    final, own = first.base.schedule.iterations, first.schedule.iterations
    length = (
        "as long as the final runs" if own == final else f"{own:,} of their {final:,} iterations"
    )
    text = (
        f"Every head had {' to '.join(map(str, {trials[0], trials[-1]}))} trials in each setting"
        + (f", and the whole search {repeats} times" if repeats > 1 else "")
        + ": the suite's own values, then points of a scrambled Sobol sequence that were drawn "
        f"ahead. {_finalists(first)}The choice is the lowest mean over "
        f"{count(len(first.trial_seeds), 'seed')} of {' or '.join(GOES_BY[one] for one in by)}; no "
        f"trial saw what the final runs are tested on. Trials are {length}. A trial that diverged "
        "is worse than any other."
    )
    bare = list(dict.fromkeys(own.search.head for own in found if not own.search.declares))
    if bare:
        text += (
            f" Searched over learning rates and weight decay only, as no search space of their own "
            f"is declared: {', '.join(bare)}."
        )
    edges = [
        f"{own.search.head} {_short(name)}" for own in found for name in _at_edge(own).values()
    ]
    if edges:
        text += (
            " At the edge of its range, which may be too narrow: "
            + ", ".join(dict.fromkeys(edges))
            + "."
        )
    return text


def _finalists(search: HeadSearch) -> str:
    if search.finalists is None:
        return ""
    others = count(len(search.trial_seeds) - 1, "further seed")
    return (
        f"After one run of each, a head's best {count(search.finalists, 'trial')} had {others}, "
        "and the choice is among these; of the others the one run's error is shown. "
    )


def _gains(name: str, rows: pd.DataFrame, found: list[SearchResult]) -> Table:
    """Defaults against tuned: on what was chosen by, and on the test set."""
    lines = []
    for head, group in rows.groupby("head", sort=False):
        searches = [own for own in found if own.search.head == head]
        complete = [own for own in searches if own.chosen is not None]
        before = {seed: error for own in searches for seed, error in own.untuned}
        after = _tested(group, searches[0])
        shared = [after[seed] - before[seed] for seed in after if seed in before]
        lines.append(
            {
                "head": head,
                "validation, own %": _mean([own.means[0] for own in complete]),
                "validation, tuned %": _mean([own.means[own.chosen or 0] for own in complete]),
                "trials": _trials(searches),
                "test, own %": _mean(list(before.values())),
                "test, tuned %": _mean(list(after.values())),
                "difference": _difference(shared),
                "seeds": str(len(shared)),
            }
        )
    what = "error" if found[0].search.by == "error" else "1 − verification accuracy"
    caption = (
        f"{name}: the suite's own values against the tuned ones, {what} in percent. Validation is "
        "what the choice goes by; only the test tells whether it is better. Own values have the "
        "seeds of the first final runs; the difference is taken seed by seed, with its 95 % "
        "interval."
    )
    return Table(f"tuning-gain-{slug(name)}", caption, pd.DataFrame(lines))


def _choices(name: str, found: list[SearchResult]) -> Table:
    """Each searched parameter: the suite's value, the chosen one, its range and position in it."""
    lines = []
    repeated = max(own.search.repeat for own in found) > 0
    for own in found:
        chosen, at_edge = own.chosen, _at_edge(own)
        for parameter, drawn in own.search.parameters.items():
            mine = own.search.own_value(parameter)
            value = None if chosen is None else own.search.trials[chosen].values[parameter]
            position = None if chosen is None else drawn.position(value, mine)
            lines.append(
                {
                    "head": own.search.head,
                    **({"repeat": str(own.search.repeat)} if repeated else {}),
                    "parameter": _short(parameter),
                    "own": _value(mine),
                    "chosen": "–" if chosen is None else _value(value),
                    "range": _range(drawn, mine),
                    "position": "–" if position is None else f"{100 * position:.0f} %",
                    "note": "at the edge" if parameter in at_edge else "",
                }
            )
    caption = (
        f"{name}: what each head chose, and where it lies in its range (0 %: the low end). At the "
        f"edge, within {100 * EDGE:.0f} % of an end, the range may be too narrow."
    )
    columns = ["head", "parameter", "own", "chosen", "range", "position", "note"]
    return Table(
        f"tuning-choices-{slug(name)}",
        caption,
        pd.DataFrame(lines, columns=None if lines else columns),
    )


def _at_edge(own: SearchResult) -> dict[str, str]:
    """The parameters whose chosen value is at an end of their range; none of the suite's own."""
    if not own.chosen:
        return {}
    values = own.search.trials[own.chosen].values
    found = {}
    for name, drawn in own.search.parameters.items():
        position = drawn.position(values[name], own.search.own_value(name))
        if (
            not isinstance(drawn, Choice)
            and position is not None
            and not EDGE < position < 1 - EDGE
        ):
            found[name] = name
    return found


def _tested(group: pd.DataFrame, search: SearchResult) -> dict[int, float]:
    done = finished_runs(group)
    errors = (
        done["test_error"] if search.search.by == "error" else 1 - done["verification_accuracy"]
    )
    return {
        int(seed): float(error)
        for seed, error in zip(done["seed"], errors, strict=True)
        if not math.isnan(error)
    }


def _trials(searches: list[SearchResult]) -> str:
    finished = sum(own.finished for own in searches)
    of = sum(len(own.errors) for own in searches)
    diverged = sum(own.diverged for own in searches)
    text = str(of) if finished == of else f"{finished} of {of}"
    return f"{text}, {diverged} diverged" if diverged else text


def _mean(errors: list[Any]) -> str:
    finite = [error for error in errors if error is not None and math.isfinite(error)]
    if len(finite) < len(errors):
        return "diverged"
    return percent(sum(finite) / len(finite)) if finite else "–"


def _difference(values: list[float]) -> str:
    if not values:
        return "–"
    text = f"{100 * sum(values) / len(values):+.2f}"
    if shows_spread(values):
        low, high = mean_interval(values)
        text += f" [{100 * low:+.2f}, {100 * high:+.2f}]"
    return text


def _short(parameter: str) -> str:
    return parameter.partition(".")[2]


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _range(drawn: Range, own: Any) -> str:
    if isinstance(drawn, Choice):
        return ", ".join(map(str, drawn.values))
    low, high = drawn.ends(own)
    return f"{low:.3g} to {high:.3g}"
