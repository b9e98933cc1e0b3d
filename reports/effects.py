"""Effects of the parts of a cell on the test error, from a grid or a fraction of one."""

from __future__ import annotations

from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from marginbench.reporting.significance import holm, mean_interval, paired_p_value
from marginbench.runs.conditions import conditions_key, labels_of_frame
from marginbench.runs.results import finished_runs
from marginbench.runs.values_in_words import values_as_text

FACTORS = ("head", "regulariser", "convolution", "training")
BASELINES = {"regulariser": "none", "convolution": "plain", "training": "standard"}
"""The level that each factor but the head has at its neutral value."""
OPERATOR = (
    "conv",
    "angular",
    "curvature",
    "magnitude",
    "radius",
    "learn_radius",
    "slope",
    "weight_norm",
)
"""The parameters of a backbone that say how its convolutions answer."""
OF_FACTORS = ("regulariser", "training")


class Design(NamedTuple):
    """The finished runs of one experiment, with the level of each factor.

    Attributes:
        name: data and backbone.
        runs: columns of :data:`FACTORS`, seed and error, in percent.
        levels: of each factor that varies, the baseline first.
    """

    name: str
    runs: pd.DataFrame
    levels: dict[str, list[str]]

    @property
    def departures(self) -> list[tuple[str, str]]:
        """(factor, level) of every level but the baselines."""
        return [(factor, level) for factor, all_ in self.levels.items() for level in all_[1:]]


def designs(results: pd.DataFrame) -> list[Design]:
    """The experiments of a results frame in which two factors or more vary.

    Runs belong to one experiment whose conditions differ in nothing else than the factors.
    """
    done = finished_runs(results).dropna(subset=["test_error"])
    if done.empty:
        return []
    network = tuple(f"backbone.parameters.{name}" for name in OPERATOR)
    keys = []
    for conditions in done["conditions"]:
        own = [f for f in conditions if f in network or f.startswith(OF_FACTORS)]
        keys.append(conditions_key(conditions, *own))
    found = []
    for _, rows in done.groupby(keys, sort=False):
        # Its runs are of many comparisons, whose labels may tell other heads apart.
        heads = labels_of_frame(rows, comparison="")
        runs = pd.DataFrame(
            {
                "head": heads,
                "regulariser": _regularisers(rows),
                "convolution": [_convolution(p) for p in rows["backbone_parameters"]],
                "training": [t if isinstance(t, str) else "standard" for t in rows["training"]],
                "seed": rows["seed"],
                "error": 100 * rows["test_error"].astype(float),
            }
        )
        baselines = BASELINES | {"head": _baseline_head(rows, heads)}
        levels = {}
        for factor in FACTORS:
            there = list(dict.fromkeys(runs[factor]))
            if len(there) > 1 and baselines[factor] in there:
                first = baselines[factor]
                levels[factor] = [first, *(level for level in there if level != first)]
        if len(levels) > 1:
            name = f"{rows.iloc[0]['data']}, {rows.iloc[0]['backbone']}"
            found.append(Design(name, runs.reset_index(drop=True), levels))
    return found


def main_effects(design: Design) -> pd.DataFrame:
    """What each level changes in the test error, in percentage points.

    Returns:
        A row a departure: factor, level; alone, its difference to the baseline with everything
        else the baseline's, the mean over seeds; effect, the coefficient of the additive model of
        all factors, fitted by least squares to the runs of each seed, the mean over seeds, with
        its 95 % interval low, high; p, Holm-corrected over the rows; seeds. What the runs do not
        determine is missing.
    """
    departures = design.departures
    fits = [_fit(rows, departures) for _, rows in design.runs.groupby("seed")]
    rows = []
    for place, (factor, level) in enumerate(departures):
        known = [fit[place] for fit in fits if fit is not None]
        alone = _contrast(design, [(factor, level)])
        low, high = mean_interval(known)
        rows.append(
            {
                "factor": factor,
                "level": level,
                "alone": float(np.mean(alone)) if alone else np.nan,
                "effect": float(np.mean(known)) if known else np.nan,
                "low": low,
                "high": high,
                "p": paired_p_value(known),
                "seeds": len(known),
            }
        )
    frame = pd.DataFrame(rows)
    frame["p"] = holm(frame["p"].tolist())
    return frame


def interactions(design: Design) -> pd.DataFrame:
    """How much two departures together differ from the sum of both alone, in percentage points.

    That is y_ab − y_a − y_b + y_0 seed by seed, everything else the baseline's; below 0: together
    they lower the error more than apart.

    Returns:
        A row a pair of levels of two factors: factor, level, other_factor, other_level,
        interaction (the mean over seeds), low, high, p (Holm-corrected over the rows), seeds.
    """
    rows = []
    for one, other in combinations(design.departures, 2):
        if one[0] == other[0]:
            continue
        found = _contrast(design, [one, other])
        if not found:
            continue
        low, high = mean_interval(found)
        rows.append(
            {
                "factor": one[0],
                "level": one[1],
                "other_factor": other[0],
                "other_level": other[1],
                "interaction": float(np.mean(found)),
                "low": low,
                "high": high,
                "p": paired_p_value(found),
                "seeds": len(found),
            }
        )
    frame = pd.DataFrame(rows)
    if len(frame):
        frame["p"] = holm(frame["p"].tolist())
    return frame


def _fit(runs: pd.DataFrame, departures: list[tuple[str, str]]) -> np.ndarray | None:
    """The coefficients of the departures in the runs of one seed; None if they do not tell."""
    columns = [(runs[factor] == level).to_numpy(float) for factor, level in departures]
    matrix = np.column_stack([np.ones(len(runs)), *columns])
    solution, _, rank, _ = np.linalg.lstsq(matrix, runs["error"].to_numpy(), rcond=None)
    return solution[1:] if rank == matrix.shape[1] else None


def _contrast(design: Design, departures: list[tuple[str, str]]) -> list[float]:
    """Σ ± error over the subsets of the departures, for each seed that has all of them."""
    errors = design.runs.groupby([*design.levels, "seed"])["error"].mean()
    total: pd.Series | float = 0.0
    for size in range(len(departures) + 1):
        for chosen in combinations(departures, size):
            place: dict[str, Any] = {f: levels[0] for f, levels in design.levels.items()}
            place |= dict(chosen)
            try:
                found = errors.xs(tuple(place.values()), level=list(place))
            except KeyError:
                return []
            total = total + (-1) ** (len(departures) - size) * found
    assert isinstance(total, pd.Series)
    return total.dropna().tolist()


def _baseline_head(rows: pd.DataFrame, heads: list[str]) -> str:
    own = (head for head, is_it in zip(heads, rows["is_baseline"], strict=True) if is_it)
    return next(own, "")


def _regularisers(rows: pd.DataFrame) -> list[str]:
    """The name of each run's regulariser, with the parameters that differ between those of it."""
    given = [
        (name, parameters or {}) if isinstance(name, str) else ("none", {})
        for name, parameters in zip(
            rows["regulariser"], rows["regulariser_parameters"], strict=True
        )
    ]
    seen: dict[tuple[str, str], set[str]] = {}
    for name, parameters in given:
        for key, value in parameters.items():
            seen.setdefault((name, key), set()).add(repr(value))
    return [
        f"{name} {values_as_text({k: v for k, v in own.items() if len(seen[name, k]) > 1})}".strip()
        for name, own in given
    ]


def _convolution(parameters: dict[str, Any]) -> str:
    """ "plain", "sphere cosine", "decoupled tanh"."""
    conv = parameters.get("conv", "plain")
    shown = {"sphere": ("angular",), "decoupled": ("angular", "magnitude")}.get(conv, ())
    return " ".join([conv, *(str(parameters[name]) for name in shown if name in parameters)])
