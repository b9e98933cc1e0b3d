"""The operations of a training step as a device sees them: what waits, and what Python changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode

WAITING = frozenset(
    {
        *("_local_scalar_dense", "is_nonzero", "equal", "allclose"),
        *("nonzero", "nonzero_numpy", "argwhere", "masked_select", "repeat_interleave"),
        *("_unique", "_unique2", "unique_dim", "unique_consecutive", "unique_dim_consecutive"),
        *("bincount", "histc", "_histogramdd_bin_edges", "combinations"),
        *("_linalg_check_errors", "linalg_matrix_exp", "_linalg_eigvals", "linalg_eig"),
        *("_linalg_eigh", "_linalg_svd", "linalg_lstsq", "_coalesce"),
    }
)
"""Operations that wait for the device, or whose result has a shape that depends on the values."""


class Operation(NamedTuple):
    """One operation of a step.

    Attributes:
        part: what of the cell asked for it, as a user names it: "head 'arcface'".
        name: "add_.Tensor".
        arguments: tensors by what made them, all other values as text.
    """

    part: str
    name: str
    arguments: str


class StepOperations(TorchDispatchMode):
    """Records the operations of a step while they are computed, the backward pass included.

    Two steps that a CUDA graph may stand for have equal records: the same operations on the same
    memory, with the same numbers from Python. A number that Python changes, or a tensor that it
    replaces by another, differs.

    Args:
        part: says what of the cell is being computed.

    Attributes:
        operations: in their order.
        waiting: those among them that no step may have that a CUDA graph is to replay.
    """

    def __init__(self, part: Callable[[], str]) -> None:
        super().__init__()
        self._part = part
        self._made: dict[int, int] = {}
        self.operations: list[Operation] = []
        self.waiting: list[Operation] = []

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        given = list(_tensors((args, kwargs)))
        name = func.__name__.removesuffix(".default")
        new = name == "lift_fresh"
        described = str(_pytree.tree_map(_value if new else self._described, (args, kwargs)))
        operation = Operation(self._part(), name, described)
        self.operations.append(operation)
        if _waits(name.partition(".")[0], args, kwargs, given):
            self.waiting.append(operation)
        result = func(*args, **kwargs)
        own = set() if new else {_memory(tensor) for tensor in given}
        for tensor in _tensors(result):
            if _memory(tensor) not in own:
                self._made[_memory(tensor)] = len(self.operations)
        return result

    def _described(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        memory = _memory(value)
        number = self._made.get(memory)
        origin = f"memory {memory}" if number is None else f"result {number}"
        return f"{origin} {tuple(value.shape)}"


def first_difference(before: list[Operation], after: list[Operation]) -> Operation | None:
    """The first operation by which the second of two steps differs from the first; None: none."""
    for one, other in zip(before, after, strict=False):
        if one != other:
            return other
    longer = max(before, after, key=len)
    shorter = min(len(before), len(after))
    return longer[shorter] if len(longer) > shorter else None


def plain_attributes(module: nn.Module) -> dict[str, str]:
    """The attributes of a module and its parts that no checkpoint keeps, as text, by their paths.

    Numbers, texts and collections of them; a tensor that is neither parameter nor buffer counts
    by which tensor it is.
    """
    return {
        f"{path}.{name}" if path else name: text
        for path, part in module.named_modules()
        for name, value in vars(part).items()
        if name not in _OWN_OF_MODULES and (text := _plain_text(value)) is not None
    }


_OWN_OF_MODULES = frozenset(vars(nn.Module()))


def _plain_text(value: Any) -> str | None:
    if isinstance(value, Tensor):
        return f"tensor {_memory(value)}"
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)
    if isinstance(value, dict):
        texts = {str(key): _plain_text(item) for key, item in value.items()}
        return None if None in texts.values() else str(texts)
    if isinstance(value, (list, tuple, set, frozenset)):
        parts = [_plain_text(item) for item in value]
        return None if None in parts else str(parts)
    return None


def _waits(name: str, args: Any, kwargs: dict[str, Any], given: list[Tensor]) -> bool:
    if name in WAITING:
        return True
    kinds = {tensor.device.type for tensor in given}
    if name == "lift_fresh":
        # torch.tensor(...): the number comes from the host.
        return kinds != {"cpu"}
    if name == "_to_copy" and kwargs.get("device") is not None:
        return len(kinds | {torch.device(kwargs["device"]).type}) > 1
    if name in ("index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"):
        # A mask as an index: how many it chooses is in the values.
        masks = (torch.bool, torch.uint8)
        if any(one is not None and one.dtype in masks for one in args[1]):
            return True
    # Between the host's memory and the device's. A single number of the host is no memory.
    return len(kinds) > 1 and (
        name == "copy_" or len({tensor.device.type for tensor in given if tensor.dim()}) > 1
    )


def _value(value: Any) -> Any:
    """What ``torch.tensor`` was given, as far as that is seen."""
    if not isinstance(value, Tensor):
        return value
    return value.tolist() if value.device.type == "cpu" else tuple(value.shape)


def _tensors(values: Any) -> Iterator[Tensor]:
    return (value for value in _pytree.tree_leaves(values) if isinstance(value, Tensor))


def _memory(tensor: Tensor) -> int:
    """A number of the memory that a tensor lies in; 0 where it has none of its own (sparse)."""
    try:
        return tensor.untyped_storage()._cdata
    except NotImplementedError:
        return 0
