"""The memory of what torch makes, counted storage by storage as it comes and goes."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Allocations(TorchDispatchMode):
    """Within it, every storage that an operator makes is counted until it is freed.

    Memory that a kernel takes and gives back by itself, to pack a matrix for example, is not seen.

    Attributes:
        live: bytes there now.
        peak: the largest number of bytes at once.
        sizes: bytes of each storage, in the order made.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = 0
        self.peak = 0
        self.sizes: list[int] = []
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        result = function(*arguments, **(options or {}))
        given = {
            tensor.untyped_storage()._cdata
            for tensor in tree_leaves((arguments, options))
            if isinstance(tensor, Tensor)
        }
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and tensor.layout is torch.strided:
                storage = tensor.untyped_storage()
                if storage._cdata not in given | self._known and storage.nbytes():
                    self._add(storage)
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        number, size = storage._cdata, storage.nbytes()
        self._known.add(number)
        self.sizes.append(size)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, number, size).atexit = False

    def _forget(self, number: int, size: int) -> None:
        self._known.discard(number)
        self.live -= size
