"""What a job on the cluster does: trains its cells one by one, each in processes of its own.

The job itself only waits, so that it can answer SLURM at any time; a cell that crashes or is
killed takes neither the job nor the other cells with it. What is to be done is read from the run
folders: a job that was requeued goes on from there.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections import deque

from submitit import JobEnvironment

from marginbench.dispatch.cell_processes import CellProcesses, load_for
from marginbench.dispatch.slurm.commands import job_state, requeue_job
from marginbench.dispatch.slurm.node_checks import NODE_ERROR, node_problem
from marginbench.dispatch.slurm.submission import Submission
from marginbench.dispatch.worker import (
    BUSY_STATUS,
    STOPPED_STATUS,
    UNUSABLE_STATUS,
    TrainingTask,
)
from marginbench.dispatch.worker_process import status_after
from marginbench.errors import UserError
from marginbench.experiments.cells import Cell
from marginbench.runs import attempts
from marginbench.runs.cell_status import FINISHED, State
from marginbench.runs.code_version import changes, code_version
from marginbench.runs.lease import Lease
from marginbench.runs.lease_state import EXPIRY_SECONDS
from marginbench.runs.run_folder import RunFolder

POLL_SECONDS = 0.2
CANCEL_POLL_SECONDS = 2.0
BUSY_RETRY_SECONDS = 2.0
# A dead owner's lease expires in the meantime; a living owner does not need this job.
BUSY_WAIT_SECONDS = EXPIRY_SECONDS + 30
STOP_SECONDS = 45.0


class CellRunner:
    """Trains the cells of one job.

    Args:
        submission: whose settings and plug-in files count.
        cells: resolved, as they were submitted.
    """

    def __init__(self, submission: Submission, cells: list[Cell]) -> None:
        self._submission = submission
        self._name = submission.path.name
        self._settings = submission.settings
        self._cells = cells
        self._job = JobEnvironment().job_id
        self._changed = changes(submission.content.code, code_version())
        self._processes: CellProcesses | None = None
        self._attempt: tuple[RunFolder, str] | None = None
        self._stopping = False

    def run(self) -> dict[str, str]:
        """Train what is not done, failed for good or cancelled; key → state afterwards."""
        for change in self._changed:
            print(f"code changed since submission: {change}", flush=True)
        # Of a container the user has chosen the version.
        version = None if self._settings.python else self._submission.content.code["python"]
        problem = node_problem(version, self._cells)
        folders = [RunFolder(self._submission.suite_folder, cell) for cell in self._cells]
        pending = deque(folders)
        busy_since: dict[str, float] = {}
        while pending and not self._stopping:
            folder = pending.popleft()
            try:
                if not self._should_train(folder):
                    continue
                if problem is not None:
                    self._refuse(folder, problem)
                    continue
                end = self._train(folder)
            except OSError as error:
                # It costs this cell; the folders of the job's others may be writable.
                print(f"{folder.path.name}: {error}", file=sys.stderr, flush=True)
                continue
            print(f"{folder.path.name}: {end}", flush=True)
            if end == attempts.BUSY:
                since = busy_since.setdefault(folder.key, time.monotonic())
                if time.monotonic() - since < BUSY_WAIT_SECONDS:
                    pending.append(folder)
                    time.sleep(BUSY_RETRY_SECONDS)
            elif end == attempts.UNUSABLE:
                # So would the next cells end: they are for a job on another node.
                break
            elif end == attempts.STOPPED and not self._submission.is_cancelled(folder.key):
                self._requeue()
                break
            elif end in (attempts.FAILED, attempts.KILLED):
                # Behind the others: the cause may have passed by then.
                pending.append(folder)
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
            self._record_end(self._attempt[0], status)

    def _should_train(self, folder: RunFolder) -> bool:
        """Whether a cell is still to be trained; where it is given up, the reason is recorded."""
        if self._submission.is_cancelled(folder.key):
            return False
        if folder.status().state in (*FINISHED, State.DAMAGED):
            return False
        failed, stopped = attempts.failures(folder.path, self._name)
        failure = folder.read_failure()
        last = attempts.read_attempts(folder.path)[-1:]
        if failure is not None and any(
            attempt.end == attempts.REFUSED and attempt.submission == self._name for attempt in last
        ):
            return False
        if failed >= self._settings.attempts:
            if failure is None:
                self._refuse(folder, f"given up: its job vanished {failed} times without progress")
            return False
        if stopped >= attempts.MAX_STOPS_WITHOUT_PROGRESS:
            self._refuse(
                folder,
                f"given up: stopped {stopped} times in a row before its first iteration; "
                f"is the time limit of {self._settings.hours:g} hours too short?",
            )
            return False
        return True

    def _train(self, folder: RunFolder) -> str:
        """One attempt; how it ended, as :class:`marginbench.runs.attempts.Attempt` has it."""
        settings = self._settings
        task = TrainingTask(
            cell=folder.cell,
            suite_folder=self._submission.suite_folder,
            plugin_files=tuple(self._submission.plugin_files),
            device="cuda" if settings.gpu_count else "cpu",
            threads=settings.threads,
            checkpoint_seconds=settings.checkpoint_seconds,
            environment=self._submission.environment,
        )
        # Before signals are blocked: it takes seconds.
        load_for(settings.world_size)
        # The handler of a signal that comes in between would not know of the processes.
        signals = {signal.SIGTERM, signal.SIGUSR2}
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        try:
            self._start_attempt(folder)
            try:
                self._processes = CellProcesses(task, settings.world_size)
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
        return self._record_end(folder, status)

    def _record_end(self, folder: RunFolder, exit_status: int) -> str:
        processes, self._processes = self._processes, None
        if exit_status == BUSY_STATUS:
            end = attempts.BUSY
        elif exit_status == UNUSABLE_STATUS and processes is not None:
            end = attempts.UNUSABLE
            node = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
            print(f"{NODE_ERROR}{node}: {processes.fault}", file=sys.stderr, flush=True)
            # Another rank may have recorded that it lost the connection.
            folder.forget_failure()
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

    def _start_attempt(self, folder: RunFolder) -> None:
        restart = int(os.environ.get("SLURM_RESTART_COUNT") or 0)
        changed = self._changed
        name = attempts.start_attempt(folder.path, self._name, self._job, restart, changed)
        self._attempt = (folder, name)

    def _end_attempt(self, end: str) -> None:
        if self._attempt is not None:
            folder, name = self._attempt
            self._attempt = None
            attempts.end_attempt(folder.path, name, end)

    def _refuse(self, folder: RunFolder, reason: str) -> None:
        """Record a failure that no further attempt of this submission would mend."""
        print(f"{folder.path.name}: {reason}", flush=True)
        folder.path.mkdir(parents=True, exist_ok=True)
        lease = Lease.acquire(folder.path)
        if lease is None:
            return
        with lease:
            self._start_attempt(folder)
            folder.write_failure(reason, "", final=True)
            self._end_attempt(attempts.REFUSED)

    def _requeue(self) -> None:
        """Requeue the job after a cell was stopped, but by neither this job nor `cancel`.

        That is SLURM, before preempting the job. Where the job still counts as running, SLURM has
        not decided yet what becomes of it; a cancelled one is not requeued.
        """
        single = os.environ.get("SLURM_JOB_ID")
        if self._stopping or single is None or os.environ.get("SUBMITIT_EXECUTOR") != "slurm":
            return
        if job_state(single) == "RUNNING":
            try:
                requeue_job(single)
            except UserError as error:
                print(f"the job was not requeued: {error}", file=sys.stderr, flush=True)
