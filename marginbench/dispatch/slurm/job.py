"""A job on the cluster: trains its cells one after the other, each in processes of its own.

The job itself only waits, so that it can answer SLURM at any time; a cell that crashes or is
killed takes neither the job nor the other cells with it. What is to be done is read off the run
folders: a job that was put back into the queue goes on where they stand.
"""

from __future__ import annotations

import importlib
import os
import platform
import signal
import socket
import sys
import time
from collections import deque
from pathlib import Path

from submitit.core.utils import DelayedSubmission

from marginbench.dispatch.cell_processes import CellProcesses
from marginbench.dispatch.slurm.commands import job_state, requeue_job
from marginbench.dispatch.slurm.submissions import Submission
from marginbench.dispatch.worker import BUSY_STATUS, STOPPED_STATUS, TrainingTask
from marginbench.dispatch.worker_process import status_after
from marginbench.errors import UserError
from marginbench.experiments.cells import Cell
from marginbench.runs import attempts
from marginbench.runs.code_version import changes, code_version
from marginbench.runs.deciding_code import libraries_of_parts
from marginbench.runs.lease import Lease
from marginbench.runs.lease_state import EXPIRY_SECONDS
from marginbench.runs.run_folder import FINISHED, RunFolder, State

POLL_SECONDS = 0.2
CANCEL_POLL_SECONDS = 2.0
BUSY_RETRY_SECONDS = 2.0
# A dead owner's lease runs out in the meantime; a living owner does not need this job.
BUSY_PATIENCE_SECONDS = EXPIRY_SECONDS + 30
STOP_SECONDS = 45.0


class ClusterJob:
    """What submitit pickles and calls: plain values that say which cells, nothing more.

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
        return {
            "submission": self.submission,
            "array": self.array,
            "index": self.index,
        }

    def __call__(self) -> dict[str, str]:
        """Train the cells; key → the state that each was left in."""
        submission = Submission(Path(self.submission))
        cells = submission.cells(self.array, self.index)
        self._runner = CellRunner(submission, cells)
        return self._runner.run()

    def checkpoint(self) -> DelayedSubmission:
        """Called by submitit when SLURM announces the end: stop the cell, and come back later."""
        if hasattr(self, "_runner"):
            self._runner.stop()
        return DelayedSubmission(ClusterJob(self.submission, self.array, self.index))


class CellRunner:
    """Trains the cells of one job.

    Args:
        submission: whose settings and plug-in files count.
        cells: resolved, as they were submitted.
    """

    def __init__(self, submission: Submission, cells: list[Cell]) -> None:
        self._submission = submission
        self._settings = submission.settings
        self._cells = cells
        self._job = _job_id()
        self._changed = changes(submission.content["code"], code_version())
        self._processes: CellProcesses | None = None
        self._attempt: tuple[RunFolder, str] | None = None
        self._stopping = False

    def run(self) -> dict[str, str]:
        """Train what is not done, failed for good or cancelled; key → state afterwards."""
        for change in self._changed:
            print(f"code changed since submission: {change}", flush=True)
        problem = self._problem_of_node()
        pending = deque(self._cells)
        busy_since: dict[str, float] = {}
        while pending and not self._stopping:
            cell = pending.popleft()
            folder = RunFolder(self._submission.suite_folder, cell)
            try:
                if not self._wanted(folder):
                    continue
                if problem is not None:
                    self._refuse(folder, problem)
                    continue
                end = self._train(cell, folder)
            except OSError as error:
                # It costs this cell; the others of the job may have a place to write to.
                print(f"{folder.path.name}: {error}", file=sys.stderr, flush=True)
                continue
            print(f"{folder.path.name}: {end}", flush=True)
            if end == attempts.BUSY:
                since = busy_since.setdefault(folder.key, time.monotonic())
                if time.monotonic() - since < BUSY_PATIENCE_SECONDS:
                    pending.append(cell)
                    time.sleep(BUSY_RETRY_SECONDS)
            elif end == attempts.STOPPED and not self._submission.is_cancelled(folder.key):
                self._leave()
                break
            elif end in (attempts.FAILED, attempts.KILLED):
                # Behind the others: what broke it may have passed by then.
                pending.append(cell)
        suite_folder = self._submission.suite_folder
        folders = [RunFolder(suite_folder, cell) for cell in self._cells]
        return {folder.key: str(folder.status().state) for folder in folders}

    def stop(self) -> None:
        """Let the running cell write its checkpoint, but wait for it no longer than SLURM would.

        Called in the middle of :meth:`run`, by a signal's handler.
        """
        self._stopping = True
        if self._processes is None:
            return
        self._processes.terminate()
        deadline = time.monotonic() + min(STOP_SECONDS, self._settings.grace / 2)
        while (status := self._processes.wait(POLL_SECONDS)) is None:
            if time.monotonic() > deadline:
                self._processes.kill()
                self._end_attempt(attempts.STOPPED)
                return
        if self._attempt is not None:
            self._settle(self._attempt[0], status)

    def _wanted(self, folder: RunFolder) -> bool:
        """Whether a cell is still to be trained; says why not where it gives up."""
        if self._submission.is_cancelled(folder.key):
            return False
        status = folder.status()
        if status.state in (*FINISHED, State.DAMAGED):
            return False
        name = self._submission.path.name
        failed, barren = attempts.failures(folder.path, name)
        failure = folder.read_failure()
        own = any(
            one.end == attempts.REFUSED
            for one in attempts.read_attempts(folder.path)[-1:]
            if one.submission == name
        )
        if failure is not None and own:
            return False
        if failed >= self._settings.attempts:
            if failure is None:
                self._refuse(folder, f"given up: its job vanished {failed} times without progress")
            return False
        if barren >= attempts.MAX_STOPS_WITHOUT_PROGRESS:
            self._refuse(
                folder,
                f"given up: stopped {barren} times in a row before its first iteration; "
                f"is the time limit of {self._settings.hours:g} hours too short?",
            )
            return False
        return True

    def _train(self, cell: Cell, folder: RunFolder) -> str:
        """One attempt; how it ended, as :class:`marginbench.runs.attempts.Attempt` has it."""
        task = _task(self._submission, cell)
        name = self._submission.path.name
        restart = int(os.environ.get("SLURM_RESTART_COUNT") or 0)
        # The handler of a signal that comes in between would not know of the processes.
        signals = {signal.SIGTERM, signal.SIGUSR2}
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        try:
            started = attempts.start_attempt(folder.path, name, self._job, restart, self._changed)
            self._attempt = (folder, started)
            try:
                self._processes = CellProcesses(task, self._settings.world_size)
            except OSError as error:
                folder.write_failure(f"its processes cannot be started: {error}", "")
                self._end_attempt(attempts.FAILED)
                return attempts.FAILED
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
        asked = 0.0
        while (status := self._processes.wait(CANCEL_POLL_SECONDS)) is None:
            now = time.monotonic()
            if not asked and self._submission.is_cancelled(folder.key):
                self._processes.terminate()
                asked = now
            if asked and now - asked > STOP_SECONDS:
                self._processes.kill()
        return self._settle(folder, status)

    def _settle(self, folder: RunFolder, exit_status: int) -> str:
        self._processes = None
        if exit_status == BUSY_STATUS:
            end = attempts.BUSY
        elif exit_status in (STOPPED_STATUS, -signal.SIGTERM):
            end = attempts.STOPPED
        else:
            status = status_after(folder, exit_status)
            failure = folder.read_failure() or {}
            if status.state in FINISHED:
                end = attempts.DONE
            elif status.state == State.DAMAGED or failure.get("final"):
                end = attempts.REFUSED
            else:
                end = attempts.KILLED if exit_status < 0 else attempts.FAILED
        self._end_attempt(end)
        return end

    def _end_attempt(self, end: str) -> None:
        if self._attempt is not None:
            folder, name = self._attempt
            self._attempt = None
            attempts.end_attempt(folder.path, name, end)

    def _leave(self) -> None:
        """The cell was told to stop behind this job's back: by SLURM, before preempting it.

        Where SLURM has not decided yet what becomes of the job (it still counts as running), it
        goes back into the queue; a cancelled one does not.
        """
        single = os.environ.get("SLURM_JOB_ID")
        if self._stopping or single is None or os.environ.get("SUBMITIT_EXECUTOR") != "slurm":
            return
        if job_state(single) == "RUNNING":
            try:
                requeue_job(single)
            except UserError as error:
                print(f"not put back into the queue: {error}", file=sys.stderr, flush=True)

    def _problem_of_node(self) -> str | None:
        """Why nothing can be trained here, in one line, or None."""
        wanted = self._submission.content["code"]["python"]
        here = ".".join(platform.python_version_tuple()[:2])
        if here != wanted:
            return (
                f"{socket.gethostname()} runs Python {here} ({sys.executable}); "
                f"the submission was made with Python {wanted}"
            )
        try:
            # Imported once, here: the cells' processes are forked off with torch loaded.
            import marginbench.dispatch.worker_preload  # noqa: F401

            for library in libraries_of_parts(self._cells):
                importlib.import_module(library)
        except Exception as error:
            return f"{socket.gethostname()}: {type(error).__name__}: {error}".splitlines()[0]
        return None

    def _refuse(self, folder: RunFolder, reason: str) -> None:
        """A failure that no further attempt of this submission would mend."""
        print(f"{folder.path.name}: {reason}", flush=True)
        folder.path.mkdir(parents=True, exist_ok=True)
        lease = Lease.acquire(folder.path)
        if lease is None:
            return
        with lease:
            name = self._submission.path.name
            started = attempts.start_attempt(folder.path, name, self._job, 0, self._changed)
            folder.write_failure(reason, "", final=True)
            attempts.end_attempt(folder.path, started, attempts.REFUSED)


def _task(submission: Submission, cell: Cell) -> TrainingTask:
    settings = submission.settings
    return TrainingTask(
        cell=cell,
        suite_folder=submission.suite_folder,
        plugin_files=tuple(submission.plugin_files),
        device="cuda" if settings.gpus else "cpu",
        threads=settings.threads,
        checkpoint_seconds=settings.checkpoint_seconds,
        environment=submission.environment,
    )


def _job_id() -> str:
    from submitit import JobEnvironment

    return JobEnvironment().job_id
