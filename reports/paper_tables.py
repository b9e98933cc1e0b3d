"""Tables 2 to 5 and Fig. 2's accuracies as the paper prints them, with our numbers beside."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd
from scipy import stats

from marginbench import SectionContent, Table, section
from marginbench.reporting.significance import shows_spread
from marginbench.runs.conditions import settings
from marginbench.runs.results import finished_runs
from marginbench.text import count, slug

from .paper_numbers import PAPER, PublishedTable, is_small, published_table


@dataclass(frozen=True)
class OurRow:
    """Our result for one head.

    Attributes:
        label: see :func:`marginbench.runs.conditions.row_labels`.
        key: (head, m), m 1 for a head without one.
        values: of the finished seeds, in percent, as the table counts.
        of: seeds that the suite asks for.
    """

    label: str
    key: tuple[str, int]
    values: list[float]
    of: int


@section("published", title="Beside the paper", order=5)
def published(results: pd.DataFrame) -> SectionContent:
    """One table for each setting that belongs to one of the paper's."""
    tables, text = [], []
    for name, rows in settings(results):
        table = published_table(str(rows.iloc[0]["setting"]))
        if table is None:
            continue
        ours = _our_rows(rows, table)
        small = is_small(str(rows.iloc[0]["setting"]))
        frame = pd.DataFrame([*_others(table), *(_our_cells(row, table, small) for row in ours)])
        tables.append(Table(f"published-{slug(name)}", _caption(name, table, small), frame))
        text.append(f"{name}: {_verdict(ours, table, small)}")
    return SectionContent(text=text, tables=tables)


def apart(values: list[float], published: float, digits: int) -> bool | None:
    """Whether a published number differs from ours by more than the seeds explain.

    The paper's number is taken for one more run of ours: it differs if it lies outside the 95 %
    prediction interval for the next run, widened by the rounding of what is printed.

    Args:
        values: of our seeds.
        published: in the same unit.
        digits: behind the point in ``published``.

    Returns:
        None with fewer than three seeds, which bear no such claim: with two the interval is 15
        standard deviations wide on either side. None too where all seeds have the same value.
    """
    if len(values) < 3 or not shows_spread(values):
        return None
    series = pd.Series(values)
    width = stats.t.ppf(0.975, len(values) - 1) * series.std() * math.sqrt(1 + 1 / len(values))
    return bool(abs(series.mean() - published) > width + 0.5 * 10**-digits)


def _our_rows(rows: pd.DataFrame, table: PublishedTable) -> list[OurRow]:
    ours = []
    for label, group in rows.groupby("label", sort=False):
        first = group.iloc[0]
        m = first["head_parameters"].get("m")
        # Only L-Softmax's m is a margin of the paper's kind.
        key = (str(first["head"]), int(m) if first["head"] == "l-softmax" else 1)
        values = _in_percent(finished_runs(group).sort_values("seed"), table)
        ours.append(OurRow(str(label), key, values, len(group)))
    return ours


def _in_percent(runs: pd.DataFrame, table: PublishedTable) -> list[float]:
    """What the table counts, of each run."""
    if table.what == "verification accuracy":
        return [100 * float(value) for value in runs["verification_accuracy"].dropna()]
    errors = runs["test_error"].dropna().astype(float)
    return [100 * e if table.what == "error" else 100 * (1 - e) for e in errors]


def _others(table: PublishedTable) -> list[dict[str, str]]:
    """The rows of other papers, as the paper prints them."""
    return [
        {
            "method": row.method,
            "source": row.source,
            f"published {table.what} %": _number(row.value, table, absent="N/A"),
            f"our {table.what} %": "",
            "seeds": "",
            "ours − published": "",
        }
        for row in table.others
    ]


def _our_cells(row: OurRow, table: PublishedTable, small: bool) -> dict[str, str]:
    paper = table.own.get(row.key)
    return {
        "method": row.label,
        "source": PAPER if paper is not None else "beyond the paper",
        f"published {table.what} %": _number(paper, table),
        f"our {table.what} %": _mean_and_deviation(row.values, table),
        "seeds": str(len(row.values))
        if len(row.values) == row.of
        else f"{len(row.values)} of {row.of}",
        "ours − published": "" if small else _difference(row, paper, table),
    }


def _difference(row: OurRow, paper: float | None, table: PublishedTable) -> str:
    if paper is None or not row.values:
        return ""
    difference = sum(row.values) / len(row.values) - paper
    verdict = {None: "", False: " (within the seeds)", True: " †"}
    return f"{difference:+.{table.digits}f}{verdict[apart(row.values, paper, table.digits)]}"


def _number(value: float | None, table: PublishedTable, absent: str = "") -> str:
    return absent if value is None else f"{value:.{table.digits}f}"


def _mean_and_deviation(values: list[float], table: PublishedTable) -> str:
    if not values:
        return "–"
    series = pd.Series(values)
    spread = f" ± {series.std():.{table.digits}f}" if len(values) > 1 else ""
    return f"{series.mean():.{table.digits}f}{spread}"


def _caption(name: str, table: PublishedTable, small: bool) -> str:
    caption = (
        f"{name}: {table.name} of {PAPER}, {table.what} on the test set, in percent. Published "
        "numbers as printed there, those of other papers with their source; ours: mean ± standard "
        "deviation over seeds of the last iterate."
    )
    if small:
        return caption + (
            " The small size is another experiment than the paper's: a narrower network, fewer "
            "images and fewer steps. Its numbers are not comparable with the published ones."
        )
    return caption + (
        " †: the published number lies outside the 95 % prediction interval for one more run of "
        "ours, so the seeds do not explain the difference."
    )


def _verdict(ours: list[OurRow], table: PublishedTable, small: bool) -> str:
    """What the comparison with the paper comes to, in a sentence or two."""
    finished = [row for row in ours if row.key in table.own and row.values]
    if not finished:
        return "no run of the paper's rows has finished."
    sentences = [] if small else [_agreement(finished, table)]
    sentences.append(_order(finished, table))
    missing = len(table.own.keys() - {row.key for row in finished})
    if missing:
        sentences.append(f"{count(missing, 'row')} of the paper's without a finished run.")
    return " ".join(sentence for sentence in sentences if sentence)


def _agreement(finished: list[OurRow], table: PublishedTable) -> str:
    verdicts = {row.label: apart(row.values, table.own[row.key], table.digits) for row in finished}
    differing = [label for label, verdict in verdicts.items() if verdict]
    agreeing = [label for label, verdict in verdicts.items() if verdict is False]
    parts = []
    if differing:
        parts.append(f"more than the seeds explain lies between ours and {', '.join(differing)}")
    if agreeing:
        parts.append(f"within what the seeds explain: {', '.join(agreeing)}")
    if len(differing) + len(agreeing) < len(verdicts):
        parts.append("fewer than three seeds say nothing of the others")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _order(finished: list[OurRow], table: PublishedTable) -> str:
    """Whether the means stand in the paper's order: each L-Softmax against softmax."""
    softmax = next((row for row in finished if row.key == ("softmax", 1)), None)
    margins = [row for row in finished if row.key[0] == "l-softmax"]
    if softmax is None or not margins:
        return ""
    sign = 1 if table.what == "error" else -1

    def mean(row: OurRow) -> float:
        return sign * sum(row.values) / len(row.values)

    better = [row.label for row in margins if mean(row) < mean(softmax)]
    if len(better) == len(margins):
        return "As in the paper, the mean of every L-Softmax here is better than that of softmax."
    worse = ", ".join(row.label for row in margins if row.label not in better)
    return f"Unlike in the paper, not better than softmax in the mean: {worse}."
