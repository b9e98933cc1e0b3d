"""A finished suite as a folder of Markdown, CSV and PNG files that can stand in the repository.

Everything in it comes from the run folders: tables and figures are those of the report's sections,
times, versions and keys those of the cells. Run, on the machine that trained:

    python benchmarks/publish.py mnist --size small

which reads runs/mnist-small and writes reports/published/mnist-small.
"""

from __future__ import annotations

import argparse
import io
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd

from marginbench.experiments.suites import FULL
from marginbench.processes import cores
from marginbench.reporting.figure_files import with_few_colours
from marginbench.reporting.sections import Figure, Section, SectionContent, sections_of
from marginbench.reporting.table_files import markdown
from marginbench.runs.results import finished_runs, results
from marginbench.runs.suite_runs import SuiteRun, open_suite
from marginbench.text import count, duration, percent
from marginbench.training.devices import processor_name

PUBLISHED = Path(__file__).parents[1] / "reports" / "published"
DOTS_PER_INCH = 100
OWN = ("account", "cells")
"""Sections whose place a part of this page takes."""


def publish(
    suite: str,
    runs: Path,
    target: Path,
    *,
    size: str = FULL,
    seeds: int | None = None,
    only: Sequence[str] = (),
    without: Sequence[str] = (),
    command: str,
) -> Path:
    """Write the page of a suite, and beside it its cells as CSV and its figures as PNG.

    Args:
        suite: its name.
        runs: RUNS, where it was run.
        target: the folder that gets a folder of this suite.
        size: of the suite.
        seeds: how many; the size's own number if None.
        only: heads; all if empty.
        without: names of sections to leave out, beside the account of the cells.
        command: with which it was run, for the page.

    Returns:
        The page.
    """
    run = open_suite(suite, runs, seeds=seeds, size=size, only=only)
    folder = target / run.folder.name
    folder.mkdir(parents=True, exist_ok=True)
    frame = results(run)
    sections = sections_of(run.suite.sections)
    shown = [section for section in sections if section.name not in (*OWN, *without)]
    cells = _cells(frame)
    cells.to_csv(folder / "cells.csv", index=False)
    parts = [
        f"# {run.folder.name}: {run.suite.description}",
        *_facts(run, frame, command),
        *(text for section in shown for text in _section(section, section.content(frame), folder)),
        "## Cells",
        "In percent, of the last iterate; also in [cells.csv](cells.csv).",
        markdown(cells),
    ]
    page = folder / "README.md"
    page.write_text("\n\n".join(part.rstrip() for part in parts) + "\n", encoding="utf-8")
    return page


def _facts(run: SuiteRun, frame: pd.DataFrame, command: str) -> list[str]:
    """What was run, where, with what, and how long it took."""
    done = set(finished_runs(frame)["key"])
    environments = [folder.read_environment() for folder in run.runs if folder.key in done]
    versions = sorted({f"torch {e['torch']}, Python {e['python']}" for e in environments})
    ends = [datetime.strptime(e["finished"], "%Y-%m-%dT%H:%M:%SZ") for e in environments]
    seconds = [float(e["seconds_of_last_attempt"]) for e in environments]
    begins = [end - timedelta(seconds=s) for end, s in zip(ends, seconds, strict=True)]
    wall = (max(ends) - min(begins)).total_seconds()
    processor = sum(float(e["processor_seconds_of_last_attempt"]) for e in environments)
    devices = ", ".join(sorted(frame["device"].dropna().unique()))
    finished = max(ends).replace(tzinfo=UTC).strftime("%Y-%m-%d")
    numbers = [str(seed) for seed in sorted(frame["seed"].unique())]
    seeds = f"{'seed' if len(numbers) == 1 else 'seeds'} {', '.join(numbers)}"
    return [
        f"    {command}",
        f"- {len(done)} of {count(len(frame), 'cell')} done, {seeds}; finished {finished}.\n"
        f"- Device: {devices} ({_processor()}), one thread a cell; {'; '.join(versions)}.\n"
        f"- {duration(wall)} of wall time from the first cell's start to the last one's end; "
        f"{duration(processor)} of processor time in training.",
    ]


def _processor() -> str:
    """The processor's name, and how many cores there are to use."""
    return f"{processor_name()}, {count(cores(), 'core')}"


def _section(section: Section, content: SectionContent, folder: Path) -> list[str]:
    if not (content.text or content.tables or content.figures or content.findings):
        return []
    told = [f"- {one.subject}: **{one.kind}**: {', '.join(one.items)}" for one in content.findings]
    parts = [f"## {section.title}", *(["\n".join(told)] if told else []), *content.text]
    for table in content.tables:
        parts += [f"*{table.caption}*", markdown(table.frame)]
    for figure in content.figures:
        parts += [f"![{section.title}]({draw(figure, folder)})", f"*{figure.caption}*"]
    return parts


def draw(figure: Figure, folder: Path) -> str:
    """The figure as a PNG for a page of text; its file's name."""
    name, buffer = f"{figure.name}.png", io.BytesIO()
    figure.figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH)
    (folder / name).write_bytes(with_few_colours(buffer.getvalue()))
    return name


def _cells(frame: pd.DataFrame) -> pd.DataFrame:
    cells = pd.DataFrame(
        {
            "head": frame["label"],
            "seed": frame["seed"],
            "key": frame["key"],
            "state": frame["state"],
        }
    )
    if frame["setting"].nunique() > 1:
        cells.insert(0, "setting", frame["setting"])
    for column, name in (
        ("train_error", "train error %"),
        ("test_error", "test error %"),
        ("verification_accuracy", "verification accuracy %"),
    ):
        if frame[column].notna().any():
            cells[name] = [percent(value) for value in frame[column]]
    return cells


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and write the folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("suite")
    parser.add_argument("--size", default=FULL)
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--without", action="append", default=[], help="a section to leave out")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--target", type=Path, default=PUBLISHED)
    given = parser.parse_args(arguments)
    words = ["marginbench", "run", given.suite]
    words += ["--size", given.size] if given.size != FULL else []
    words += ["--seeds", str(given.seeds)] if given.seeds else []
    page = publish(
        given.suite,
        given.runs,
        given.target,
        size=given.size,
        seeds=given.seeds,
        without=given.without,
        command=shlex.join(words),
    )
    print(page)


if __name__ == "__main__":
    main()
