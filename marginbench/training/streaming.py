"""Images that do not fit on the device: read ahead, batch by batch, in the order of the run."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import numpy as np
import psutil
import torch
from torch import Tensor

from marginbench.runs.environment import resident_bytes

SHARE = 0.5
"""Of a device's free memory, for images, if the environment has no limit."""
AHEAD = 4
"""Batches read before they are needed."""


def resident_limit(device: torch.device) -> int:
    """How many bytes of images may lie on a device.

    Raises:
        UserError: the variable holds no whole number ≥ 0.
    """
    given = resident_bytes()
    if given is not None:
        return given
    if device.type == "cuda":
        return int(SHARE * torch.cuda.mem_get_info(device)[0])
    return int(SHARE * psutil.virtual_memory().available)


@dataclass
class _Slot:
    """Room for a batch on its way.

    Attributes:
        host: (B, C, H, W), uint8, pinned where the device is CUDA.
        staged: the same on the device, or None.
        copied: that ``host`` may be written again, and ``staged`` read.
        used: that ``staged`` may be written again.
    """

    host: Tensor
    staged: Tensor | None = None
    copied: torch.cuda.Event | None = None
    used: torch.cuda.Event | None = None


class BatchStream:
    """The images of each batch, one after the other, in one and the same tensor on the device.

    A thread gathers the next batches from the images, which may be a mapped file, and a stream of
    its own copies them to the device, so that a step finds its batch there.

    Args:
        images: (N, C, H, W), uint8, on the CPU.
        batches: (iterations, B), indices, on the CPU.
        device: of the batches.

    Attributes:
        batch: (B, C, H, W), uint8, on the device: the batch loaded last. Always the same memory,
            so that a captured step reads it.
    """

    def __init__(self, images: Tensor, batches: Tensor, device: torch.device) -> None:
        self._images, self._batches = images.contiguous().numpy(), batches.numpy()
        self._device = device
        shape = (batches.shape[1], *images.shape[1:])
        on_gpu = device.type == "cuda"
        self.batch = torch.empty(shape, dtype=torch.uint8, device=device)
        self._copies = torch.cuda.Stream(device) if on_gpu else None
        self._free = deque(
            _Slot(torch.empty(shape, dtype=torch.uint8, pin_memory=on_gpu)) for _ in range(AHEAD)
        )
        if on_gpu:
            for slot in self._free:
                slot.staged = torch.empty_like(self.batch)
                slot.copied, slot.used = torch.cuda.Event(), torch.cuda.Event()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._coming: deque[Future[_Slot]] = deque()
        self._next = 0

    def load(self, iteration: int) -> None:
        """Put the batch of a step, 0 … iterations − 1, into :attr:`batch`.

        Steps follow one another; a first one, or one out of turn, is waited for.
        """
        if iteration != self._next - len(self._coming):
            self._free.extend(future.result() for future in self._coming)
            self._coming.clear()
            self._next = iteration
        self._read_ahead()
        slot = self._coming.popleft().result()
        if slot.staged is None:
            self.batch.copy_(slot.host)
        else:
            assert slot.copied is not None and slot.used is not None  # noqa: PT018
            stream = torch.cuda.current_stream(self._device)
            stream.wait_event(slot.copied)
            self.batch.copy_(slot.staged)
            slot.used.record(stream)
        self._free.append(slot)
        self._read_ahead()

    @property
    def is_reading(self) -> bool:
        """Whether a batch is on its way from the images, or waits for its turn."""
        return any(not future.done() for future in self._coming)

    def settle(self) -> None:
        """Wait until no batch is on its way; none is read until the next :meth:`load`."""
        wait(self._coming)
        if self._copies is not None:
            self._copies.synchronize()

    def _read_ahead(self) -> None:
        while self._free and self._next < len(self._batches):
            self._coming.append(self._pool.submit(self._fetch, self._free.popleft(), self._next))
            self._next += 1

    def _fetch(self, slot: _Slot, iteration: int) -> _Slot:
        if slot.copied is not None:
            slot.copied.synchronize()
        # "clip" writes into `out` itself; the indices are those of images that there are.
        np.take(self._images, self._batches[iteration], 0, out=slot.host.numpy(), mode="clip")
        if slot.staged is not None:
            assert self._copies is not None and slot.copied is not None  # noqa: PT018
            assert slot.used is not None
            with torch.cuda.stream(self._copies):
                self._copies.wait_event(slot.used)
                slot.staged.copy_(slot.host, non_blocking=True)
                slot.copied.record(self._copies)
        return slot
