"""What the study measured, kept in a file a data set, and two of its questions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from marginbench.errors import DamagedFile, one_line
from marginbench.evaluation import RETRIEVAL
from marginbench.files import write_text_atomically
from marginbench.reporting.compared_tables import LOWER_IS_BETTER, MEASURES, compared_tables
from marginbench.reporting.verdict_words import p_statement
from marginbench.reporting.verdicts import BETTER, WORSE, verdicts
from marginbench.runs.cell_status import FINISHED
from marginbench.runs.results import results
from marginbench.text import count

PARTS = ("tuned", "own", "fewer")
NUMBERS = ("train_error", *MEASURES, "equal_within", "max_seeds", "first_look")
KEPT = (
    "setting",
    "comparison",
    "data",
    "backbone",
    "label",
    "head",
    "is_baseline",
    "seed",
    "state",
    *NUMBERS,
    "spending",
    "key",
)
"""Columns of the results frame that the page rests on, beside those that are kept as JSON."""


@dataclass(frozen=True)
class Measured:
    """A data set of the study.

    Attributes:
        suite: its name.
        tuned: the final runs.
        own: the runs with the heads' own values.
        fewer: softmax's final runs after fewer trials; each a frame of
            :func:`marginbench.runs.results.results`.
    """

    suite: str
    tuned: pd.DataFrame
    own: pd.DataFrame
    fewer: pd.DataFrame

    @property
    def is_whole(self) -> bool:
        """Whether every run has ended."""
        ended = [state.value for state in FINISHED]
        return all(part["state"].isin(ended).all() for part in (self.tuned, self.own, self.fewer))


def measured(suite: str, runs: Path, fewer: Path) -> Measured:
    """What has been run of a data set.

    Args:
        suite: its name, or the path of its file.
        runs, fewer: RUNS, and that of softmax with fewer trials.

    Raises:
        UserError: there is no search.
    """
    return Measured(
        Path(suite).stem,
        tuned=results(suite, runs, tuned=True),
        own=results(suite, runs),
        fewer=results(suite, fewer, tuned=True, only=["softmax"]),
    )


def keep(one: Measured, file: Path) -> None:
    """Write what the page needs of a data set's runs: the page can be made without the runs.

    Args:
        file: a CSV file, one row a run; the head's parameters as JSON, and of each set of pairs its
            name, measures of retrieval, and the mean over its folds in their place.
    """
    parts = []
    for name in PARTS:
        rows: pd.DataFrame = getattr(one, name)
        pairs = [_pairs_as_text(entries) for entries in rows["verification"]]
        parameters = [json.dumps(values) for values in rows["head_parameters"]]
        texts = {"head_parameters": parameters, "verification": pairs}
        parts.append(rows[[*KEPT]].assign(part=name, **texts))
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomically(file, pd.concat(parts).to_csv(index=False))


def kept(file: Path) -> Measured:
    """What :func:`keep` wrote.

    Raises:
        DamagedFile: it does not read as such.
    """
    try:
        # As text first: pandas' own reading of a number may be wrong in the last digit.
        frame = pd.read_csv(file, dtype=dict.fromkeys(NUMBERS, str))
        frame = frame.astype(dict.fromkeys(NUMBERS, float))
        frame["head_parameters"] = [json.loads(text) for text in frame["head_parameters"]]
        frame["verification"] = [
            _pairs_of(text) if isinstance(text, str) else None for text in frame["verification"]
        ]
        frame = frame[[*KEPT, "head_parameters", "verification", "part"]]
    except (ValueError, TypeError, KeyError) as error:
        raise DamagedFile(file, f"it is no file of `make study` ({one_line(error)})") from None
    frame["spending"] = frame["spending"].astype(object).where(frame["spending"].notna(), None)
    nothing: dict[str, Any] = {}
    frame["conditions"] = frame["data_parameters"] = [nothing] * len(frame)
    frame["remarks"] = frame["folder"] = None
    parts = {
        name: frame[frame["part"] == name].drop(columns="part").reset_index(drop=True)
        for name in PARTS
    }
    return Measured(file.stem, **parts)


def _pairs_as_text(entries: Any) -> str | None:
    if not isinstance(entries, list):
        return None
    return json.dumps([_kept_pairs(one) for one in entries], separators=(",", ":"))


def _kept_pairs(one: dict[str, Any]) -> dict[str, Any]:
    retrieval = one.get("retrieval")
    return {
        "name": one["name"],
        # The page shows no single fold, and they would be half of the file.
        "folds": {"mean": float(np.mean(list(one["folds"].values())))},
        "retrieval": retrieval and {name: retrieval[name] for name in RETRIEVAL},
    }


def _pairs_of(text: str) -> list[dict[str, Any]]:
    # The page says in its own words what is verified.
    return [{"description": ""} | entry for entry in json.loads(text)]


def asked(one: Measured) -> Measured:
    """Without the test errors of open sets: the classes trained on are not their question."""

    def without(frame: pd.DataFrame) -> pd.DataFrame:
        closed = frame["verification_accuracy"].isna()
        return frame.assign(test_error=frame["test_error"].where(closed, None))

    return Measured(one.suite, without(one.tuned), without(one.own), without(one.fewer))


def columns_of(frame: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
    """The rows of each setting and measure, under a short title."""
    return {
        (images_of(table.setting), table.measure): table.rows for table in compared_tables(frame)
    }


def images_of(setting: str) -> str:
    """A setting without its suite's name, which says nothing that the setting does not."""
    return setting.partition(": ")[2] or setting


def fewer_trials(found: Sequence[Measured]) -> str:
    """How often heads with all trials beat softmax with all trials, and with few."""
    counts = {"all": 0, "few": 0}
    of, changed = 0, []
    for one in found:
        others = one.tuned[one.tuned["head"] != "softmax"]
        # The same comparison: only what softmax was chosen from differs.
        columns = ["setting", "comparison", "conditions", "max_seeds", "first_look", "spending"]
        softmax = one.tuned[one.tuned["head"] == "softmax"].drop_duplicates("setting")
        fewer = one.fewer.drop(columns=columns[1:]).merge(softmax[columns], on="setting")
        replayed = pd.concat([fewer[one.tuned.columns], others], ignore_index=True)
        fixed = {"max_seeds": np.nan, "first_look": np.nan, "spending": None}
        shared = one.tuned[one.tuned["seed"].isin(one.fewer["seed"])]
        replayed = replayed[replayed["seed"].isin(one.fewer["seed"])]
        full, few = (
            verdicts(frame.assign(**fixed)).set_index(["setting", "measure", "label"])["verdict"]
            for frame in (shared, replayed)
        )
        counts["all"] += int((full == BETTER).sum())
        counts["few"] += int((few == BETTER).sum())
        of += len(full)
        changed += [
            f"{key[2]} on {key[0]} ({MEASURES[key[1]]}): {full[key]} → {few[key]}"
            for key in full.index
            if key in few.index and full[key] != few[key]
        ]
    text = (
        "Earlier comparisons gave softmax a few trials and a margin head many. With softmax chosen "
        f"from its first three trials, and the others from sixteen as above, "
        f"{counts['few']} of {of} comparisons over ten seeds are won against softmax; with sixteen "
        f"trials for both, {counts['all']}."
    )
    if changed:
        text += " Verdicts that differ: " + "; ".join(changed) + "."
    return text


def closed_and_open(frame: pd.DataFrame, decided: pd.DataFrame) -> str:
    """What heads win on closed and on open sets, and the rank correlation between the two.

    Args:
        frame: of all data sets.
        decided: its verdicts.
    """
    means = {
        title: rows.groupby("label")["value"].mean() * (1 if title[1] in LOWER_IS_BETTER else -1)
        for title, rows in columns_of(frame).items()
    }
    closed = [title for title in means if title[1] == "test_error"]
    opened = [title for title in means if title[1] in ("verification_accuracy", "map_at_r")]
    lines = []
    for first in closed:
        for second in opened:
            both = pd.concat([means[first], means[second]], axis=1, keys=["a", "b"]).dropna()
            if len(both) > 2:
                rho = stats.spearmanr(both["a"], both["b"])
                lines.append(
                    f"- {first[0]} and {second[0]} ({MEASURES[second[1]]}): Spearman's ρ "
                    f"{rho.statistic:+.2f}, {count(len(both), 'head')}, {p_statement(rho.pvalue)}"
                )
    if not lines:
        return "No closed and open set are both whole yet."
    return (
        f"Against softmax, {_wins(decided, 'test_error', 'in test error on closed sets')}, and "
        f"{_wins(decided, 'verification_accuracy', 'in verification on open ones')}. Whether the "
        "heads that err least on classes they know are those that do best on classes they do not: "
        "rank correlation of the heads' means, +1 if the order is the same.\n\n" + "\n".join(lines)
    )


def _wins(decided: pd.DataFrame, measure: str, where: str) -> str:
    """Of a measure: "11 of 13 comparisons are won and 2 lost in ...", and on each data set."""

    def won_and_lost(rows: pd.DataFrame) -> tuple[int, int]:
        return int((rows["verdict"] == BETTER).sum()), int((rows["verdict"] == WORSE).sum())

    found = decided[decided["measure"] == measure]
    won, lost = won_and_lost(found)
    text = f"{won} of {count(len(found), 'comparison')} are won and {lost} lost {where}"
    if found["setting"].nunique() > 1:
        each = (
            "{}: {} and {}".format(setting, *won_and_lost(rows))
            for setting, rows in found.groupby("setting", sort=False)
        )
        text += f" ({'; '.join(each)})"
    return text
