"""Several processes that train one cell together, one a GPU: torch.distributed.

Every batch is the cell's own, cut into equal parts: each rank's backbone sees one part, the
features of all are gathered, and the head, the same on every rank, sees the whole batch. So pair
losses find their pairs, a head's state is what it would be in one process, and heads need to know
nothing of it. Batch normalisation takes its statistics over the whole batch. The result is that of
one process up to the order of floating-point sums.
"""

from __future__ import annotations

import os
import socket
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from marginbench.errors import UserError, one_line

# The others wait while rank 0 evaluates. A dead rank is not waited for: whoever started the ranks
# ends the others.
TIMEOUT = timedelta(minutes=30)


Value = TypeVar("Value")


class NotConnected(Exception):
    """The processes of a cell have not found each other."""


class OtherRankFailed(Exception):
    """What this rank was about to do has failed on another one."""


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this one is.

    Attributes:
        rank: 0 … size − 1; rank 0 evaluates and writes.
        size: processes; with 1, nothing here does anything.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process evaluates and writes."""
        return self.rank == 0

    def own_part(self, batches: Tensor) -> Tensor:
        """This rank's columns of the batches (iterations, batch_size).

        Raises:
            UserError: the batch size is no multiple of the number of processes.
        """
        width, rest = divmod(batches.shape[1], self.size)
        if rest:
            raise UserError(
                f"cell: schedule.batch_size = {batches.shape[1]} is not allowed with {self.size} "
                f"processes; allowed: a multiple of {self.size}"
            )
        return batches[:, self.rank * width : (self.rank + 1) * width].contiguous()

    def share(self, value: Any) -> Any:
        """Rank 0's value, on every rank; picklable."""
        if self.size == 1:
            return value
        holder = [value]
        distributed.broadcast_object_list(holder, src=0, device=torch.device("cpu"))
        return holder[0]

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value, on every rank; picklable."""
        if self.size == 1:
            return [value]
        values = [None] * self.size
        distributed.all_gather_object(values, value)
        return values

    def all_or_none(self, action: Callable[[], Value]) -> Value:
        """What the action returns on this rank, once it has succeeded on every rank.

        Args:
            action: done by every rank, at the same point in the program.

        Raises:
            Exception: what the action has raised here.
            UserError: it has raised one on another rank only.
            OtherRankFailed: it has raised something else on another rank only.
        """
        if self.size == 1:
            return action()
        own: Exception | None = None
        try:
            value = action()
        except Exception as error:
            own = error
        errors = self.gather(None if own is None else (isinstance(own, UserError), one_line(own)))
        if own is not None:
            raise own
        for rank, word in enumerate(errors):
            if word is not None:
                of_the_user, text = word
                kind = UserError if of_the_user else OtherRankFailed
                raise kind(f"process {rank} of the cell: {text}")
        return value

    def any_of(self, flag: bool) -> bool:
        """Whether any rank says yes."""
        if self.size == 1:
            return flag
        answer = torch.tensor([flag], dtype=torch.int32)
        distributed.all_reduce(answer, distributed.ReduceOp.MAX)
        return bool(answer)

    def all_features(self, features: Tensor) -> Tensor:
        """Every rank's features (B, D) under one another, (size·B, D), in the ranks' order."""
        return features if self.size == 1 else _Gather.apply(features, self)

    def wrap(self, module: nn.Module, device: torch.device) -> nn.Module:
        """The module to call in training: its gradients are averaged over the ranks."""
        if self.size == 1 or not any(p.requires_grad for p in module.parameters()):
            return module
        with warnings.catch_warnings():
            # Newer torch has another name for it, which older torch does not know.
            warnings.filterwarnings("ignore", message=".*broadcast_buffers.*is deprecated")
            return DistributedDataParallel(
                module,
                device_ids=[device] if device.type == "cuda" else None,
                # Every rank computes a head's state, and the whole batch's statistics, by itself.
                broadcast_buffers=False,
            )


class _Gather(torch.autograd.Function):
    """All ranks' features; the gradient of the own ones comes back.

    Every rank computes the same loss from all features. DistributedDataParallel averages the
    gradients of the ranks, where the whole batch wants their sum: hence the factor.
    """

    @staticmethod
    def forward(context: Any, features: Tensor, ranks: Ranks) -> Tensor:
        context.ranks = ranks
        parts = [torch.empty_like(features) for _ in range(ranks.size)]
        distributed.all_gather(parts, features.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        ranks = context.ranks
        return gradient.chunk(ranks.size)[ranks.rank] * ranks.size, None


def local_device(name: str, local_rank: int, local_size: int) -> str:
    """The device of one of a machine's ranks: a GPU of its own where there are GPUs.

    Args:
        name: "auto", "cpu" or "cuda".
        local_rank: 0 … local_size − 1, of the process among those of this machine.
        local_size: ranks on this machine.

    Raises:
        UserError: there are GPUs, but fewer than ranks.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name != "cuda":
        return name
    gpus = torch.cuda.device_count()
    if 0 < gpus < local_size:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "not set")
        raise UserError(
            f"{local_size} processes on {socket.gethostname()} need a GPU each, and torch sees "
            f"{gpus} (CUDA_VISIBLE_DEVICES is {visible!r}); allowed: at most {gpus} processes"
        )
    return f"cuda:{local_rank}"


@contextmanager
def joined(ranks: Ranks, device: torch.device, address: str | None = None) -> Iterator[Ranks]:
    """Connect the processes, and part again at the end.

    After an exception the connection is left to the end of the process: parting would wait for the
    other ranks.

    Args:
        ranks: this process's rank.
        device: NCCL connects GPUs, gloo connects CPUs.
        address: "tcp://HOST:PORT" of rank 0; None reads torchrun's variables.

    Raises:
        NotConnected: the processes do not find each other.
    """
    if ranks.size == 1:
        yield ranks
        return
    # Whatever is sent from rank to rank besides tensors goes through gloo.
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        distributed.init_process_group(
            backend,
            init_method=address or "env://",
            rank=ranks.rank,
            world_size=ranks.size,
            timeout=TIMEOUT,
        )
    except (RuntimeError, ValueError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise NotConnected(
            f"the {ranks.size} processes of a cell do not find each other"
            f"{f' at {address}' if address else ''}: {first_line}"
        ) from error
    yield ranks
    distributed.destroy_process_group()
