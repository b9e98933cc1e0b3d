"""All submissions of a suite: their cells, and the settings of the last one."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path
from typing import Any

from marginbench.dispatch.slurm.commands import LocalSlurm
from marginbench.dispatch.slurm.submission import FOLDER, Submission
from marginbench.errors import DamagedFile
from marginbench.runs.run_folder import RunFolder


def submissions(suite_folder: Path) -> list[Submission]:
    """All submissions of a suite, the oldest first."""
    found = [Submission(path.parent) for path in (suite_folder / FOLDER).glob("*/submission.json")]
    return sorted(found, key=lambda submission: submission.content.submitted)


def last_settings(
    suite_folder: Path, slurm: LocalSlurm, executor: str | None
) -> dict[str, Any] | None:
    """The settings of the last submission with an executor, or any, that apply here; or None.

    Another cluster's partitions and the like mean nothing here, nor do a cluster's settings to
    local processes.
    """
    for submission in reversed(submissions(suite_folder)):
        settings = submission.settings
        applies = settings.executor == "local" or submission.content.cluster == slurm.cluster
        if applies and executor in (None, settings.executor):
            return settings.model_dump()
    return None


def submitted_cells(suite_folder: Path, known: Container[str]) -> tuple[list[RunFolder], list[str]]:
    """The cells that were ever submitted, without those known already, the oldest first.

    Args:
        suite_folder: ``RUNS/SUITE``.
        known: keys of cells.

    Returns:
        Their run folders, and a message for each file that does not read.
    """
    found: dict[str, RunFolder] = {}
    unread = []
    for submission in submissions(suite_folder):
        for array in submission.arrays():
            wanted = {
                index
                for index, keys in enumerate(array.jobs)
                if any(key not in known and key not in found for key in keys)
            }
            if not wanted:
                continue
            try:
                jobs = submission.cells_of_jobs(array.number, wanted)
            except DamagedFile as error:
                unread.append(str(error))
                continue
            runs = [RunFolder(suite_folder, cell) for cells in jobs for cell in cells]
            found |= {run.key: run for run in runs if run.key not in known}
    return list(found.values()), unread
