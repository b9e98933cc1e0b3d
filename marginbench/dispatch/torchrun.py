"""Running cells one after the other in the processes that torchrun started, all on each cell."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import torch

from marginbench.dispatch.local import Board
from marginbench.dispatch.torchrun_environment import (
    torchrun_local,
    torchrun_processes,
    torchrun_rank,
)
from marginbench.dispatch.worker import (
    BUSY_STATUS,
    FAILED_STATUS,
    STOPPED_STATUS,
    Order,
    claim,
    guarded,
    train_order,
)
from marginbench.dispatch.worker_process import status_after
from marginbench.errors import UserError, one_line
from marginbench.runs.lease import Lease
from marginbench.runs.run_folder import CellStatus, RunFolder, State
from marginbench.training.loop import choose_device
from marginbench.training.ranks import NotConnected, Ranks, joined, local_device

SHOW_SECONDS = 0.5


class RankFailed(UserError):
    """A cell failed on this rank in the middle of training: the ranks are no longer in step."""


def run_together(orders: list[Order], device: str, show: Callable[[Board], None]) -> Board:
    """Train all cells, each by all processes; to be called in each of them.

    A SIGTERM to any process (torchrun passes a Ctrl-C on as one) lets rank 0 write the checkpoint,
    and ends all of them. A cell that another run trains is left to it.

    Args:
        orders: one per cell, the same on every rank.
        device: "auto", "cpu" or "cuda".
        show: called on rank 0, a few times a second and at the end.

    Returns:
        The board at the end; of use on rank 0.

    Raises:
        UserError: the processes do not find each other, or there are fewer GPUs than processes.
        RankFailed: a cell failed in the middle of training; the same command goes on.
    """
    ranks = Ranks(torchrun_rank(), torchrun_processes())
    own = choose_device(local_device(device, *torchrun_local()))
    board = Board(total=len(orders))
    stop_asked = threading.Event()

    def ask_to_stop(number: int, frame: FrameType | None) -> None:
        stop_asked.set()

    previous = {
        number: signal.signal(number, ask_to_stop) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        with joined(ranks, own), _shown(board, show if ranks.leads else None):
            for order in orders:
                board.stopping = board.stopping or ranks.any_of(stop_asked.is_set())
                if board.stopping:
                    break
                folder = RunFolder(order.suite_folder, order.cell)
                board.active = [folder]
                _work_together(order, folder, own, ranks, stop_asked, board)
                board.active = []
    except NotConnected as error:
        raise UserError(str(error)) from error
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return board


def _work_together(
    order: Order,
    folder: RunFolder,
    device: torch.device,
    ranks: Ranks,
    stop: threading.Event,
    board: Board,
) -> None:
    """Train one cell, and note on the board how it ended."""
    with contextlib.ExitStack() as held:
        try:
            lease, ended = ranks.all_or_none(lambda: _take(order, folder, ranks, held, board))
            status = ranks.share(ended)
            if status is None:
                log = ranks.all_or_none(lambda: held.enter_context(folder.log.open("a")))
        except Exception as error:
            # On every rank alike: a folder that cannot be used costs its cell only.
            board.ended.append((folder, CellStatus(State.FAILED, one_line(error))))
            return
        if status is None:
            begun = threading.Event()

            def train_it() -> None:
                train_order(order, folder, lease, device, stop.is_set, ranks, begun.set)

            with contextlib.redirect_stdout(log):
                status = guarded(folder, lease, train_it)
            if status in (FAILED_STATUS, BUSY_STATUS) and begun.is_set():
                raise RankFailed(f"{folder.path.name} failed; see {folder.log}")
    board.stopping = status == STOPPED_STATUS
    if status == BUSY_STATUS:
        board.elsewhere[folder.key] = (folder, folder.status())
    elif ranks.leads and not board.stopping:
        board.ended.append((folder, status_after(folder, status, forced=order.force)))


def _take(
    order: Order, folder: RunFolder, ranks: Ranks, held: contextlib.ExitStack, board: Board
) -> tuple[Lease | None, int | None]:
    """On rank 0: the lease, or the status to end with where there is nothing to train."""
    if not ranks.leads:
        return None, None
    claimed = claim(
        order, folder, lambda told: board.iterations.update({folder.key: told["iteration"]})
    )
    if isinstance(claimed, int):
        return None, claimed
    held.enter_context(claimed)
    if order.force:
        # Before the others look for a checkpoint.
        folder.clear()
    return claimed, None


@contextlib.contextmanager
def _shown(board: Board, show: Callable[[Board], None] | None) -> Iterator[None]:
    """Show the board from a thread of its own: this one trains."""
    if show is None:
        yield
        return
    ended = threading.Event()

    def keep_showing() -> None:
        while not ended.wait(SHOW_SECONDS):
            show(board)

    thread = threading.Thread(target=keep_showing, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        show(board)
