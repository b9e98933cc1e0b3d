"""Running cells one after the other in the processes that torchrun started, all on each cell."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from marginbench.dispatch.local import DispatchProgress
from marginbench.dispatch.torchrun_environment import (
    torchrun_local,
    torchrun_processes,
    torchrun_rank,
)
from marginbench.dispatch.worker import (
    BUSY_STATUS,
    FAILED_STATUS,
    STOPPED_STATUS,
    TrainingTask,
    claim,
    run_recording_failure,
    train_task,
)
from marginbench.dispatch.worker_process import status_after
from marginbench.errors import UserError, one_line
from marginbench.runs.cell_status import CellStatus, State
from marginbench.runs.lease import Lease
from marginbench.runs.run_folder import RunFolder
from marginbench.training.devices import choose_device
from marginbench.training.ranks import NotConnected, Ranks, joined, local_device

SHOW_SECONDS = 0.5


class RankFailed(UserError):
    """A cell failed on this rank in the middle of training: the ranks are no longer in step."""


def run_together(
    tasks: list[TrainingTask], device: str, show: Callable[[DispatchProgress], None]
) -> DispatchProgress:
    """Train all cells, each by all processes; to be called in each of them.

    A SIGTERM to any process (torchrun passes a Ctrl-C on as one) lets rank 0 write the checkpoint,
    and ends all of them. A cell that another run trains is left to it.

    Args:
        tasks: one per cell, the same on every rank.
        device: "auto", "cpu" or "cuda".
        show: called on rank 0, a few times a second and at the end.

    Returns:
        The progress at the end; of use on rank 0.

    Raises:
        UserError: the processes do not find each other, or there are fewer GPUs than processes.
        RankFailed: a cell failed in the middle of training; the same command goes on.
    """
    return _Together(device, show).run(tasks)


class _Together:
    """One of the processes, and how far all of them are."""

    def __init__(self, device: str, show: Callable[[DispatchProgress], None]) -> None:
        self._ranks = Ranks(torchrun_rank(), torchrun_processes())
        self._device = choose_device(local_device(device, *torchrun_local()))
        self._show = show
        self._progress = DispatchProgress(total=0)
        self._stop_asked = threading.Event()

    def run(self, tasks: list[TrainingTask]) -> DispatchProgress:
        progress, ranks = self._progress, self._ranks
        progress.total = len(tasks)
        numbers = (signal.SIGTERM, signal.SIGINT)
        previous = {number: signal.signal(number, self._ask_to_stop) for number in numbers}
        try:
            with joined(ranks, self._device), self._shown():
                for task in tasks:
                    stopping = ranks.any_of(self._stop_asked.is_set())
                    progress.stopping = progress.stopping or stopping
                    if progress.stopping:
                        break
                    folder = RunFolder(task.suite_folder, task.cell)
                    progress.active = [folder]
                    self._train(task, folder)
                    progress.active = []
        except NotConnected as error:
            raise UserError(str(error)) from error
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
        return progress

    def _ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        self._stop_asked.set()

    def _train(self, task: TrainingTask, folder: RunFolder) -> None:
        """Train one cell, and note in the progress how it ended."""
        ranks, progress = self._ranks, self._progress
        with contextlib.ExitStack() as held:
            try:
                lease, ended = ranks.all_or_none(lambda: self._take_lease(task, folder, held))
                status = ranks.share(ended)
                if status is None:
                    log = ranks.all_or_none(lambda: held.enter_context(folder.log.open("a")))
            except Exception as error:
                # On every rank alike: a folder that cannot be used costs its cell only.
                progress.ended.append((folder, CellStatus(State.FAILED, one_line(error))))
                return
            if status is None:
                begun = threading.Event()
                stop = self._stop_asked.is_set

                def train_it() -> None:
                    train_task(task, folder, lease, self._device, stop, ranks, begun.set)

                with contextlib.redirect_stdout(log):
                    status = run_recording_failure(folder, lease, train_it)
                if status in (FAILED_STATUS, BUSY_STATUS) and begun.is_set():
                    raise RankFailed(f"{folder.path.name} failed; see {folder.log}")
        progress.stopping = status == STOPPED_STATUS
        if status == BUSY_STATUS:
            progress.busy[folder.key] = (folder, folder.status())
        elif ranks.leads and not progress.stopping:
            progress.ended.append((folder, status_after(folder, status, forced=task.force)))

    def _take_lease(
        self, task: TrainingTask, folder: RunFolder, held: contextlib.ExitStack
    ) -> tuple[Lease | None, int | None]:
        """On rank 0: the lease, or the status to end with where there is nothing to train."""
        if not self._ranks.leads:
            return None, None
        iterations = self._progress.iterations
        claimed = claim(
            task, folder, lambda known: iterations.update({folder.key: known["iteration"]})
        )
        if isinstance(claimed, int):
            return None, claimed
        held.enter_context(claimed)
        if task.force:
            # Before the others look for a checkpoint.
            folder.clear()
        return claimed, None

    @contextlib.contextmanager
    def _shown(self) -> Iterator[None]:
        """On rank 0: show the progress from a thread of its own, since this one trains."""
        if not self._ranks.leads:
            yield
            return
        ended = threading.Event()

        def keep_showing() -> None:
            while not ended.wait(SHOW_SECONDS):
                self._show(self._progress)

        thread = threading.Thread(target=keep_showing, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self._show(self._progress)
