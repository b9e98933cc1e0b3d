"""Verification: are two images of one class, of classes never trained on?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from marginbench import SectionContent, Table, section
from marginbench.evaluation.receiver_operating import Characteristic
from marginbench.reporting.compared_tables import VERIFICATION_ACCURACY
from marginbench.reporting.comparison_table import ComparedRow, compare
from marginbench.reporting.drawing import label_styles
from marginbench.reporting.verdict_words import verdict_cells, verdicts_by_label
from marginbench.reporting.verdicts import verdicts
from marginbench.reporting.verification_results import VerifiedSetting, verified_settings
from marginbench.text import percent, slug

from .neighbour_figure import neighbour_figure
from .retrieval_table import retrieval_table
from .verification_figures import (
    accuracy_figure,
    curve_figure,
    dimension_figure,
    histogram_figure,
)

NAMED_PAIRS = 10


@section("verification", title="Verification", order=50)
def verification(results: pd.DataFrame) -> SectionContent:
    """For every set of pairs: accuracy, retrieval, ROC, histograms, identification, hard pairs."""
    tables, figures = [], []
    styles = label_styles(results["label"])
    found = verdicts(results)
    for setting in verified_settings(results):
        done = setting.done()
        compared = compare(setting.rows, VERIFICATION_ACCURACY)
        verdict_of = verdicts_by_label(found, setting.name, VERIFICATION_ACCURACY)
        tables.append(_accuracy_table(setting, compared, done, verdict_of))
        if done.empty:
            continue
        curves = {
            label: [setting.characteristic(row) for row in group.itertuples()]
            for label, group in done.groupby("label", sort=False)
        }
        tables += retrieval_table(setting, found)
        tables += [_rates_table(setting, curves), *_identification_table(setting, done)]
        tables += _hardest_table(setting, done)
        figures += neighbour_figure(setting)
        figures.append(accuracy_figure(setting, compared))
        figures.append(curve_figure(setting, styles))
        figures.append(histogram_figure(setting))
        figures.append(dimension_figure(setting, styles))
    return SectionContent(tables=tables, figures=figures)


def _accuracy_table(
    setting: VerifiedSetting,
    compared: list[ComparedRow],
    done: pd.DataFrame,
    verdict_of: dict[str, Any],
) -> Table:
    first = done if len(done) else setting.rows
    folds = sum(len(entry["folds"]) for entry in first.iloc[0]["entries"])
    if setting.cells_a_run > 1:
        protocol = (
            f"{setting.cells_a_run} trainings a head and seed, each tested on its own set and "
            "trained on others; thresholds from pairs of people neither trained nor tested on"
        )
    elif folds > 1:
        protocol = (
            f"{folds} folds as in LFW's view 2: the threshold that is best on all other folds is "
            "applied to each"
        )
    else:
        protocol = "the threshold is chosen on other pairs, of people not trained on"
    spread = "Mean ± standard deviation over seeds"
    if folds > 1:
        spread += " of the mean over folds; the folds' standard error is that of one run"
    caption = (
        f"{setting.name}, verification: accuracy on {setting.description}{setting.of_first}, "
        f"cosine of the features; {protocol}. {spread}."
    )
    frame = pd.DataFrame([_accuracy_cells(row, done, verdict_of) for row in compared])
    if folds < 2:
        frame = frame.drop(columns="standard error of folds")
    return Table(f"verification-accuracy-{slug(setting.name)}", caption, frame)


def _accuracy_cells(row: ComparedRow, done: pd.DataFrame, found: dict[str, Any]) -> dict[str, str]:
    values = pd.Series(row.test_errors)
    spread = f" ± {100 * values.std():.2f}" if len(values) > 1 else ""
    errors = done.loc[done["label"] == row.label, "verification_standard_error"].dropna()
    cells = verdict_cells(row.label, row.is_baseline, found)
    return {
        "head": row.label,
        "verdict": cells.pop("verdict"),
        "accuracy %": f"{100 * values.mean():.2f}{spread}" if len(values) else "–",
        "standard error of folds": f"{100 * errors.mean():.2f}" if len(errors) else "–",
        "seeds": row.seed_count,
        **cells,
    }


def _rates_table(setting: VerifiedSetting, found: dict[str, list[Characteristic]]) -> Table:
    rows, notes = [], {}
    resampled = ""
    for label, seeds in found.items():
        cells = {
            "head": label,
            "area under ROC": _with_interval([one.area for one in seeds], 1, 4),
            "EER %": _with_interval([one.equal_error_rate for one in seeds], 100, 2),
        }
        resampled = seeds[0].resampled
        for points in zip(*(one.points for one in seeds), strict=True):
            far = points[0].far
            column = f"TAR % at FAR {far:g}"
            tars = [point.tar for point in points if point.tar is not None]
            cells[column] = _with_interval(tars, 100, 1) if tars else "–"
            if points[0].note:
                notes[far] = points[0].note
        rows.append(cells)
    caption = (
        f"{setting.name}: receiver operating characteristic of the tested pairs, mean over seeds; "
        f"in brackets the 95 % interval of one run, by bootstrap over {resampled}."
    )
    caption += "".join(f" FAR {far:g}: {note}." for far, note in notes.items())
    return Table(f"verification-rates-{slug(setting.name)}", caption, pd.DataFrame(rows))


def _with_interval(estimates: list, factor: float, digits: int) -> str:
    value = np.mean([factor * estimate.value for estimate in estimates])
    if any(estimate.low is None for estimate in estimates):
        return f"{value:.{digits}f}"
    low = np.mean([factor * estimate.low for estimate in estimates])
    high = np.mean([factor * estimate.high for estimate in estimates])
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _identification_table(setting: VerifiedSetting, done: pd.DataFrame) -> list[Table]:
    rows = []
    sizes = ""
    for label, group in done.groupby("label", sort=False):
        known = [e["identification"] for entries in group["entries"] for e in entries]
        if any(one is None for one in known):
            return []
        cells = {"head": label, "rank 1 %": percent(_mean(one["rank_one"] for one in known))}
        for position, (rate, _) in enumerate(known[0]["open_set"]):
            values = [one["open_set"][position][1] for one in known]
            if known[0]["strangers"]:
                measured = None if any(value is None for value in values) else _mean(values)
                cells[f"open set, FAR {rate:g}: %"] = percent(measured)
        rows.append(cells)
        first = known[0]
        sizes = (
            f"{first['gallery']:,} people known by one image each, {first['probes']:,} further "
            f"images of theirs, {first['strangers']:,} images of strangers"
        )
    caption = (
        f"{setting.name}: identification among the images of the tested pairs, "
        f"{sizes}{setting.of_first}: the share "
        "identified at rank 1, and, where there are strangers, at a threshold that so many of "
        "them pass; – where they are too few to measure it. A tie counts as wrong."
    )
    return [Table(f"identification-{slug(setting.name)}", caption, pd.DataFrame(rows))]


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _hardest_table(setting: VerifiedSetting, done: pd.DataFrame) -> list[Table]:
    """The pairs that the most runs count among their hardest."""
    beyond: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for row in done.itertuples():
        for entry in row.entries:
            for kind, pairs in (entry["hardest"] or {}).items():
                for pair in pairs:
                    names = (kind, pair["first"], pair["second"])
                    beyond[names].append(pair["beyond_threshold"])
    if not beyond:
        return []
    rows = []
    for kind, word in (("same", "same person"), ("different", "different people")):
        ranked = sorted(
            ((key, values) for key, values in beyond.items() if key[0] == kind),
            key=lambda item: (-len(item[1]), -abs(float(np.mean(item[1]))), item[0]),
        )
        for (_, first, second), values in ranked[:NAMED_PAIRS]:
            rows.append(
                {
                    "pair of": word,
                    "first": first,
                    "second": second,
                    "runs": f"{len(values)} of {len(done)}",
                    "score − threshold": f"{np.mean(values):+.3f}",
                }
            )
    caption = (
        f"{setting.name}: the hardest pairs, by name and number of the image: those that the most "
        f"runs of all heads have among the {NAMED_PAIRS} same pairs furthest below their threshold "
        f"or the {NAMED_PAIRS} different ones furthest above it."
    )
    return [Table(f"hardest-pairs-{slug(setting.name)}", caption, pd.DataFrame(rows))]
