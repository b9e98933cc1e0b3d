"""A suite's search in a runs folder: ``RUNS/SUITE-tuned`` with trials and final runs.

The searches that were last asked for are read from a file, so that what only looks at them needs
neither torch nor the data.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Self

from marginbench.experiments.cells import Cell
from marginbench.experiments.head_search import HeadSearch
from marginbench.experiments.search import TRIALS
from marginbench.experiments.suites import TUNED
from marginbench.runs.cell_status import FINISHED
from marginbench.runs.manifest import recorded_keys
from marginbench.runs.run_folder import RunFolder
from marginbench.runs.search_files import write_searches
from marginbench.runs.search_results import SearchResult, search_result
from marginbench.runs.suite_runs import SuiteRun


@dataclass(frozen=True)
class TunedRun(SuiteRun):
    """A suite's trials and, of the searches that are complete, the final runs and own values' runs.

    Attributes:
        searches: all of the suite, chosen by ``--only`` or not.
        own_folder: where the suite's own runs are, as ``run`` makes them.
        heads: those chosen; none for all.
        trials, repeats: as asked for; see :func:`open_tuned`.
        every_seed: whether the final runs have all seeds that the plan may need; else those that
            its first look needs and those asked for since.
    """

    searches: tuple[HeadSearch, ...] = ()
    own_folder: Path = field(default_factory=Path)
    heads: tuple[str, ...] = ()
    trials: int = TRIALS
    repeats: int | None = None
    every_seed: bool = False

    def final_cells(self, result: SearchResult) -> list[Cell]:
        """The final runs of what a search has chosen; of the suite's own values before it has."""
        cells = result.search.final_cells(result.chosen or 0)
        if self.plan is None or self.every_seed:
            return cells
        first = self.plan.looks[0]
        return [cell for cell in cells if cell.seed < first or cell.key in self._recorded]

    def own_cells(self, result: SearchResult) -> list[Cell]:
        """The suite's own values with the seeds of the first final runs, for comparison with them.

        Those that the suite itself has run, with `marginbench run`, are not run again.
        """
        cells = result.search.default_cells()
        if self.plan is not None:
            cells = [cell for cell in cells if cell.seed < self.plan.looks[0]]
        return [
            cell
            for cell in cells
            if cell.key in self._recorded
            or RunFolder(self.own_folder, cell).status().state not in FINISHED
        ]

    @property
    def trial_runs(self) -> list[RunFolder]:
        """The runs of the trials; see :meth:`SearchResult.trial_cells`."""
        trials = {cell.key for result in self.results for cell in result.trial_cells()}
        return [run for run in self.runs if run.key in trials]

    @cached_property
    def _recorded(self) -> set[str]:
        return recorded_keys(self.folder)

    @cached_property
    def results(self) -> list[SearchResult]:
        """Of the chosen heads' searches, as they were when first asked for."""
        return [
            search_result(search, self.folder, self.own_folder)
            for search in self.searches
            if not self.heads or search.head in self.heads
        ]

    @property
    def incomplete(self) -> list[SearchResult]:
        """The searches with trials that have no result."""
        return [result for result in self.results if not result.is_complete]

    def record(self) -> None:
        """As of a suite, and write what the searches are."""
        super().record()
        asked = {"trials": self.trials, "repeats": self.repeats}
        write_searches(self.folder, self.searches, asked)

    def with_runs(self, runs: list[RunFolder]) -> Self:
        """As of a suite; final runs are those asked for, and no longer all of the plan."""
        return replace(super().with_runs(runs), every_seed=False)


def tuned_folder(own: Path) -> Path:
    """Where the search of a suite is.

    Args:
        own: the suite's own folder.
    """
    return own.with_name(f"{own.name}-{TUNED}")
