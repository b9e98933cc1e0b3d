"""All submissions of a suite: their cells, and the settings of the last one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from marginbench.dispatch.slurm.commands import LocalSlurm
from marginbench.dispatch.slurm.submission import FOLDER, Submission


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
