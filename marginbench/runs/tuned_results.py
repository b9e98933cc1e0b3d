"""The results frame of a tuned suite: the final runs, each with the search behind it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from marginbench.runs.cell_status import State
from marginbench.runs.conditions import conditions_of
from marginbench.runs.run_folder import RunFolder
from marginbench.runs.search_results import SearchResult
from marginbench.runs.suite_runs import SuiteRun
from marginbench.runs.tuned_runs import TunedRun
from marginbench.text import count

NOT_YET = (
    *("train_error", "test_error", "verification_accuracy", "verification_standard_error"),
    *("verification_of", "verification", "remarks", "train_images", "test_images"),
    *("device", "processor", "cpu_capability", "seconds"),
)
"""What a run that is not chosen yet has no value of."""


def tuned_rows(
    run: TunedRun, row: Callable[[RunFolder, str, SuiteRun], dict[str, Any]]
) -> list[dict[str, Any]]:
    """One row a final run.

    Rows of one setting are one comparison, though learning rates and weight decays differ: what is
    searched differs between heads, and nothing else.

    Args:
        run: the searches and their runs.
        row: makes the row of a run folder, given the label and the suite's run.
    """
    rows = []
    for result in run.results:
        search = result.search
        for cell in run.final_cells(result):
            values = row(RunFolder(run.folder, cell), search.head, run)
            if result.chosen is None:
                values |= dict.fromkeys(NOT_YET) | _unchosen(result)
            rows.append(
                values
                | {
                    "comparison": search.comparison,
                    "conditions": conditions_of(search.base),
                    "head_key": search.head,
                    "search": result,
                }
            )
    return rows


def _unchosen(result: SearchResult) -> dict[str, Any]:
    trials = count(len(result.errors), "trial")
    return {
        "state": State.NOT_STARTED.value,
        "message": f"its search has {result.finished} of {trials}",
        "iteration": 0,
    }
