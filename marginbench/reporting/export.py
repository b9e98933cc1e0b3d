"""Results and histories for other programs: CSV, Parquet, TensorBoard; figures for papers."""

from __future__ import annotations

import json
import struct
import time
import warnings
from collections.abc import Callable, Hashable, Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd

from marginbench.errors import UserError
from marginbench.experiments.suites import Suite
from marginbench.files import no_empty_folders_on_error, output_file
from marginbench.reporting.drawing import WIDTHS, paper_columns
from marginbench.reporting.figure_files import save_figure
from marginbench.reporting.sections import sections_of
from marginbench.runs.results import history
from marginbench.text import distinct

EXTRAS = {"pyarrow": "parquet", "tensorboardX": "tensorboard"}
"""The extra of marginbench that brings a library."""
EVENTS = "events.out.tfevents.marginbench"
_WORDS = {1: "one-column", 2: "two-columns"}


def flat_results(results: pd.DataFrame) -> pd.DataFrame:
    """A results frame whose cells are text and numbers only: dictionaries and lists as JSON.

    Args:
        results: see :func:`marginbench.runs.results.results`.
    """

    def flat(value: Any) -> Any:
        if isinstance(value, dict | list | tuple):
            return json.dumps(value, ensure_ascii=False, default=str)
        return str(value) if isinstance(value, Path) else value

    return results.map(flat)


def write_csv(results: pd.DataFrame, folder: Path) -> list[Path]:
    """Write ``results.csv`` and ``history.csv``; their paths."""
    return _write_frames(
        results, folder, "csv", lambda frame, path: frame.to_csv(path, index=False)
    )


def write_parquet(results: pd.DataFrame, folder: Path) -> list[Path]:
    """Write ``results.parquet`` and ``history.parquet``; their paths.

    Raises:
        UserError: pyarrow is not installed.
    """
    _library("pyarrow")
    return _write_frames(
        results, folder, "parquet", lambda frame, path: frame.to_parquet(path, engine="pyarrow")
    )


def write_tensorboard(results: pd.DataFrame, folder: Path) -> list[Path]:
    """Write an event file a finished cell: its errors, loss and learning rate by iteration.

    The file's name is always the same, so that a second export replaces the first one's.

    Args:
        results: see :func:`marginbench.runs.results.results`.
        folder: gets a folder ``SETTING/HEAD/seed N`` a cell, for ``tensorboard --logdir``.

    Returns:
        The cells' folders.

    Raises:
        UserError: tensorboardX is not installed.
    """
    _library("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.summary import scalar

    looks = history(results)
    # Two comparisons of a suite may have one setting's name.
    settings = list(zip(results["comparison"], results["setting"], strict=True))
    of_settings = _files(settings, [setting for _, setting in settings])
    of_keys = dict(zip(results["key"], settings, strict=True))
    of_labels = _files(results["label"], results["label"])
    folders = []
    for key, rows in looks.groupby("key", sort=False):
        first = rows.iloc[0]
        place = (
            folder / of_settings[of_keys[key]] / of_labels[first["label"]] / f"seed {first['seed']}"
        )
        folders.append(place)
        events = [Event(wall_time=time.time(), file_version="brain.Event:2")]
        for look in rows.drop(columns=["key", "label", "seed"]).to_dict("records"):
            step = int(look.pop("iteration"))
            events += [
                Event(wall_time=time.time(), step=step, summary=scalar(name, float(value)))
                for name, value in look.items()
                if value is not None and not pd.isna(value)
            ]
        place.mkdir(parents=True, exist_ok=True)
        with output_file(place / EVENTS) as temporary:
            temporary.write_bytes(b"".join(_record(event.SerializeToString()) for event in events))
    return folders


def _record(event: bytes) -> bytes:
    """An event as event files have it: its length, the event, and a checksum after each.

    tensorboardX writes in a thread, which prints a traceback on a full disk.
    """
    from tensorboardX.record_writer import masked_crc32c

    length = struct.pack("<Q", len(event))
    checksums = [struct.pack("<I", masked_crc32c(part)) for part in (length, event)]
    return length + checksums[0] + event + checksums[1]


def write_figures(results: pd.DataFrame, suite: Suite, folder: Path) -> list[Path]:
    """Write every figure of the suite's report for a paper, for one and for two columns.

    A section that fails is left out, with a warning.

    Returns:
        The paths without their endings, .pdf, .svg and .png: ``FIGURE-one-column``,
        ``FIGURE-two-columns``.
    """
    stems = []
    for columns in WIDTHS:
        with paper_columns(columns):
            for section in sections_of(suite.sections):
                try:
                    figures = section.content(results).figures
                except Exception as error:
                    # Whatever a plug-in's section does wrong, the others are worth having.
                    warnings.warn(
                        f"section {section.name!r} could not be made, so its figures are missing: "
                        f"{type(error).__name__}: {error}",
                        stacklevel=2,
                    )
                    continue
                for figure in figures:
                    stem = folder / f"{figure.name}-{_WORDS[columns]}"
                    save_figure(figure, stem)
                    stems.append(stem)
    return stems


def exported(write: Callable[[Path], list[Path]], folder: Path) -> list[Path]:
    """Make the folder, and what is written into it.

    Raises:
        UserError: it cannot be written.
    """
    try:
        with no_empty_folders_on_error(folder):
            folder.mkdir(parents=True, exist_ok=True)
            return write(folder)
    except OSError as error:
        raise UserError(f"{str(folder)!r} cannot be written: {error.strerror or error}") from error


def _write_frames(
    results: pd.DataFrame, folder: Path, ending: str, write: Callable[[pd.DataFrame, Path], Any]
) -> list[Path]:
    frames = {"results": flat_results(results), "history": history(results)}
    paths = []
    for name, frame in frames.items():
        paths.append(folder / f"{name}.{ending}")
        with output_file(paths[-1]) as temporary:
            write(frame, temporary)
    return paths


def _files(things: Iterable[Hashable], names: Iterable[str]) -> dict[Hashable, str]:
    """A folder's name for each thing, no two alike: a slash would make two folders of a name."""
    once = dict(zip(things, names, strict=True))
    files = distinct(name.replace("/", "∕").strip(".") or "unnamed" for name in once.values())
    return dict(zip(once, files, strict=True))


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise UserError(
            f"this needs {name}, which is not installed: pip install 'marginbench[{EXTRAS[name]}]'"
        ) from None
