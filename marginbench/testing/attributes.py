"""What a head holds besides parameters and buffers: in training it has to stay as it is."""

from __future__ import annotations

import contextlib
import inspect
import random
from collections.abc import Iterator, Mapping
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from marginbench.testing.check_in_modes import CheckFailure
from marginbench.testing.observation import gradients, logits_of, loss_of
from marginbench.testing.subject import Subject

STEPS = 3
OUTSIDE = ("torch", "marginbench.heads", "builtins", "typing", "numpy")
"""The modules whose classes and functions keep nothing of a head."""
_OF_EVERY_MODULE = frozenset(vars(nn.Module())) - {"_modules"}


def plain_attributes_stay(subject: Subject) -> str:
    """Training moves parameters and buffers alone, in place, and draws from torch's generator.

    A checkpoint does not have what a plain attribute holds, and a captured CUDA graph repeats the
    value and the memory of the step that was captured. What the first step makes is not counted.
    """
    head = subject.build()
    before: dict[str, str] = {}
    places: dict[str, int] = {}
    for step in range(1 + STEPS):
        features, labels = subject.batch(step)
        gradients(head.train(), features, labels)
        loss_of(head.eval(), features, labels)
        logits_of(head, features)
        seen: dict[int, Any] = {
            id(tensor): tensor for tensor in (*head.parameters(), *head.buffers())
        }
        kept = {
            "self": head,
            "the state of random": random.getstate(),
            "the state of numpy.random": np.random.get_state(),
        }
        found = {name: text for key in kept for name, text in _values(kept[key], key, seen)}
        for name, value in found.items():
            if step and before.get(name) != value:
                raise CheckFailure(
                    f"{name} is {before.get(name, 'absent')[:40]}, and {value[:40]} one step "
                    "later: what moves in training belongs in a buffer, and random numbers are "
                    "drawn from torch"
                )
        for name, buffer in head.named_buffers():
            if places.setdefault(name, buffer.data_ptr()) != buffer.data_ptr():
                raise CheckFailure(f"training replaces the buffer {name!r}; change it in place")
        before = found
    return f"{len(before)} values the same over {STEPS} steps"


def _values(value: Any, name: str, seen: dict[int, Any]) -> Iterator[tuple[str, str]]:
    """All that can be reached from a value and is not seen yet, by its name, as text."""
    if isinstance(value, int | float | complex | str | bytes | None):
        yield name, repr(value)
        return
    if id(value) in seen or isinstance(value, ModuleType):
        return
    seen[id(value)] = value  # held, so that no other gets its id
    if isinstance(value, Tensor | np.ndarray):
        yield name, repr(value.tolist())
        return
    for part, inner in _parts(value):
        yield from _values(inner, name + part, seen)


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from ((f"[{key!r}]", inner) for key, inner in value.items())
    elif isinstance(value, list | tuple):
        yield from ((f"[{i}]", inner) for i, inner in enumerate(value))
    elif isinstance(value, MethodType):
        yield from (("", value.__func__), ("", value.__self__))
    elif isinstance(value, FunctionType | type) and value.__module__.startswith(OUTSIDE):
        return
    elif isinstance(value, FunctionType):
        reached = inspect.getclosurevars(value)
        for names in (reached.nonlocals, reached.globals):
            yield from ((f" {name}", inner) for name, inner in names.items())
        yield from (("'s defaults", one) for one in (value.__defaults__, value.__kwdefaults__))
        yield "", vars(value)
    elif isinstance(value, torch.Generator):
        yield "", value.get_state()
    elif hasattr(value, "__dict__"):
        owner = f".{value.__name__}" if isinstance(value, type) else ""
        hidden = _OF_EVERY_MODULE if isinstance(value, nn.Module) else ()
        for key, inner in [*vars(value).items()]:
            if not key.startswith("__") and key not in hidden:
                yield f"{owner}.{key}", inner
        yield from (("", kind) for kind in type(value).__mro__ if kind is not type)
    else:
        with contextlib.suppress(Exception):  # what cannot be copied has no state of its own
            yield "", value.__reduce_ex__(4)[1:]
