"""What has come out of a search: each trial's error, and the choice."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from marginbench.errors import DamagedFile
from marginbench.experiments.head_search import HeadSearch
from marginbench.runs.run_folder import RunFolder


@dataclass(frozen=True)
class SearchResult:
    """A search and its trials' errors.

    Attributes:
        search: see :class:`HeadSearch`.
        errors: by trial and seed, in [0, 1]; infinite where the run diverged, None where there is
            no result yet.
        untuned: what the search goes by, of the suite's own runs on the test set: (seed, error) of
            those that finished.
    """

    search: HeadSearch
    errors: tuple[tuple[float | None, ...], ...]
    untuned: tuple[tuple[int, float], ...] = ()

    @property
    def means(self) -> list[float | None]:
        """Each trial's error, its mean over the seeds; None where a seed has no result."""
        return [
            None
            if None in errors
            else sum(error for error in errors if error is not None) / len(errors)
            for errors in self.errors
        ]

    @property
    def finished(self) -> int:
        """How many trials have all their results."""
        return sum(mean is not None for mean in self.means)

    @property
    def is_complete(self) -> bool:
        """Whether all trials have."""
        return self.finished == len(self.errors)

    @property
    def diverged(self) -> int:
        """How many trials have a run that diverged."""
        return sum(mean is not None and math.isinf(mean) for mean in self.means)

    @property
    def chosen(self) -> int | None:
        """The trial of the lowest mean error, of equals the first; None before all have one.

        A trial that diverged is worse than any other; if all did, it is the suite's own values.
        """
        if not self.is_complete:
            return None
        return min(range(len(self.errors)), key=lambda number: self.means[number] or 0.0)


def search_result(search: HeadSearch, folder: Path, own_folder: Path) -> SearchResult:
    """A search's trials as they are on disk.

    Args:
        search: whose trials.
        folder: with their run folders.
        own_folder: with those of the suite's own cells.
    """
    own = [
        (cell.seed, _error(RunFolder(path, cell), search))
        for cell in search.default_cells()
        for path in (own_folder, folder)
    ]
    return SearchResult(
        search,
        errors=tuple(
            tuple(_error(RunFolder(folder, cell), search) for cell in search.trial_cells(number))
            for number in range(len(search.trials))
        ),
        # A cell that both folders have is the same run.
        untuned=tuple(
            {seed: error for seed, error in own if error is not None and error < math.inf}.items()
        ),
    )


def _error(run: RunFolder, search: HeadSearch) -> float | None:
    try:
        result = run.read_result()
    except DamagedFile:
        # Its state says so; it is none until it is trained again.
        return None
    if result is None:
        return None
    if result["outcome"] == "diverged":
        return math.inf
    if search.by == "error":
        return float(result["test_error"])
    return 1 - float(result["verification_accuracy"])
