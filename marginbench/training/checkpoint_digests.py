"""Digests of everything that a checkpoint holds, written with it: no change of it goes unseen."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

DIGESTS = "digests"
_COMPARED = frozenset({DIGESTS, "key", "code", "content"})
"""Entries without a digest: they are compared with the cell's own values."""
_LEVELS = 4
"""Of lists within lists that count: a short file may nest them deeply, or in themselves."""


def digests(state: dict[str, Any]) -> dict[str, str]:
    """The type and a hash of each tensor and each other value.

    Args:
        state: the entries of a checkpoint. The optimiser's settings get no digest: they are never
            read, as the cell has them.

    Returns:
        By place: "backbone.linear.weight", "optimiser[0].momentum_buffer", "history".
    """
    return {name: _kind(value) + _hash(value) for name, value in _values(state)}


def first_change(state: dict[str, Any]) -> str | None:
    """What in a checkpoint differs from what was written, in words; None if nothing does.

    Args:
        state: its entries, :data:`DIGESTS` among them.
    """
    written = state[DIGESTS]
    if not isinstance(written, dict) or not all(type(own) is str for own in written.values()):
        return f"entry {DIGESTS!r} is not a digest of each value"
    missing = dict(written)
    for name, value in _values(state):
        own, kind = missing.pop(name, ""), _kind(value)
        # Bytes are read of a tensor of the right size only: a file may claim any size.
        if not own.startswith(kind) or own != kind + _hash(value):
            return f"{name!r} was changed after it was written"
    return f"{next(iter(missing))!r} is missing" if missing else None


def _values(state: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in state.items():
        if name == "optimiser" and isinstance(value, dict):
            yield from _inner(name, value.get("state"))
        elif name not in _COMPARED:
            yield from _inner(name, value)


def _inner(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict) or not value:
        yield name, value
        return
    for key, inner in value.items():
        yield from _inner(f"{name}.{key}" if type(key) is str else f"{name}[{key!r}]", inner)


def _kind(value: Any) -> str:
    if not isinstance(value, Tensor):
        return f"{type(value).__name__} "
    # Strides too: the optimisers step through memory in its order.
    return f"{value.dtype} {list(value.shape)} {list(value.stride())} "


def _hash(value: Any) -> str:
    if isinstance(value, Tensor):
        flat = value.detach().cpu().contiguous().flatten()
        content: Any = flat.view(torch.uint8).numpy()
    else:
        content = _text(value).encode()
    return hashlib.sha256(content).hexdigest()[:16]


def _text(value: Any, levels: int = _LEVELS) -> str:
    if not isinstance(value, (list, tuple, dict)):
        return repr(value)
    if not levels:
        return "..."
    inner = [*value, *value.values()] if isinstance(value, dict) else value
    return f"{type(value).__name__}({', '.join(_text(one, levels - 1) for one in inner)})"
