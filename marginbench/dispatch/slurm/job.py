"""What submitit pickles and calls on the node: a job that trains some cells of a submission."""

from __future__ import annotations

from pathlib import Path

from submitit.core.utils import DelayedSubmission

from marginbench.dispatch.slurm.cell_runner import CellRunner
from marginbench.dispatch.slurm.submission import Submission


class ClusterJob:
    """Plain values that say which cells, nothing more.

    Args:
        submission: folder of the submission.
        array: number of the array in it.
        index: of the job in the array.
    """

    def __init__(self, submission: str, array: int, index: int) -> None:
        self.submission = submission
        self.array = array
        self.index = index

    def __getstate__(self) -> dict[str, object]:
        return {"submission": self.submission, "array": self.array, "index": self.index}

    def __call__(self) -> dict[str, str]:
        """Train the cells; key → the state that each was left in."""
        submission = Submission(Path(self.submission))
        (cells,) = submission.cells_of_jobs(self.array, [self.index])
        self._runner = CellRunner(submission, cells)
        return self._runner.run()

    def checkpoint(self) -> DelayedSubmission:
        """Called by submitit when SLURM announces the end: stop the cell, and be requeued."""
        if hasattr(self, "_runner"):
            self._runner.stop()
        return DelayedSubmission(ClusterJob(self.submission, self.array, self.index))
