"""What the study measured, kept in a file a data set."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from marginbench.errors import DamagedFile, one_line
from marginbench.evaluation import RETRIEVAL
from marginbench.files import write_text_atomically
from marginbench.reporting.compared_tables import MEASURES, compared_tables
from marginbench.runs.cell_status import FINISHED
from marginbench.runs.results import results

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
