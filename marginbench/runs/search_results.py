"""What has come out of a search: each trial's error, and the choice."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from marginbench.errors import DamagedFile
from marginbench.experiments.cells import Cell
from marginbench.experiments.head_search import HeadSearch
from marginbench.runs.run_folder import RunFolder


@dataclass(frozen=True)
class SearchResult:
    """A search and its trials' errors.

    Attributes:
        search: see :class:`HeadSearch`.
        errors: by trial and seed, in [0, 1]; infinite where the run diverged, None where there is
            no result (yet).
        untuned: what the search goes by, of the suite's own runs on the test set: (seed, error) of
            those that finished.
    """

    search: HeadSearch
    errors: tuple[tuple[float | None, ...], ...]
    untuned: tuple[tuple[int, float], ...] = ()

    @property
    def first_errors(self) -> list[float | None]:
        """Each trial's error with its first seed."""
        return [errors[0] for errors in self.errors]

    @property
    def finalists(self) -> list[int]:
        """The trials that are run with every seed; none before all have their first seed's result.

        Of trials that are level, the first.
        """
        first = self.first_errors
        if self.search.finalists is None:
            return [*range(len(first))]
        if None in first:
            return []
        order = sorted(range(len(first)), key=lambda number: first[number] or 0.0)
        return sorted(order[: self.search.finalists])

    @property
    def means(self) -> list[float | None]:
        """Each trial's error, its mean over the seeds that it is run with; None while one lacks."""
        finalists = self.finalists
        needed = [
            errors if number in finalists else errors[:1]
            for number, errors in enumerate(self.errors)
        ]
        return [
            None
            if None in errors
            else sum(error for error in errors if error is not None) / len(errors)
            for errors in needed
        ]

    def trial_cells(self) -> list[Cell]:
        """The cells of all trials, as far as it is known which are run with every seed."""
        finalists = self.finalists
        return [
            cell
            for number in range(len(self.errors))
            for cell in self.search.trial_cells(number)[: None if number in finalists else 1]
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
        """The finalist of the lowest mean error, of equals the first; None before all have one.

        A trial that diverged is worse than any other; if all did, it is the suite's own values.
        """
        if not self.is_complete:
            return None
        means = self.means
        best = min(self.finalists, key=lambda number: means[number] or 0.0)
        return 0 if means[best] == math.inf else best


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
