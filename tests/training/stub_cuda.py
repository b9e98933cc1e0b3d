"""CUDA's streams and graphs on the CPU: a graph records operations and repeats them, no more.

As of a real one, what a graph repeats are the operations on the same memory, with the numbers that
Python gave when they were recorded; and recording changes no tensor.
"""

from __future__ import annotations

import contextlib
import importlib

import torch
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode

FORBIDDEN = {"_local_scalar_dense", "nonzero", "masked_select", "linalg_matrix_exp"}


def tensors_of(values):
    return [one for one in _pytree.tree_leaves(values) if isinstance(one, torch.Tensor)]


def memory(tensor):
    return None if tensor.is_sparse else tensor.untyped_storage()._cdata


class StubGraph(TorchDispatchMode):
    """Stands for torch.cuda.CUDAGraph; a dispatch mode while it records."""

    def __init__(self):
        super().__init__()
        self.operations = []
        self._before = {}
        self._made = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func.__name__.partition(".")[0] in FORBIDDEN:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
        given = tensors_of((args, kwargs))
        for tensor in given:
            if not tensor.is_sparse and memory(tensor) not in self._made | self._before.keys():
                self._before[memory(tensor)] = (tensor, tensor.detach().clone())
        result = func(*args, **kwargs)
        shared = {memory(tensor) for tensor in given}
        fresh = [one for one in tensors_of(result) if memory(one) not in shared | {None}]
        self._made |= {memory(tensor) for tensor in fresh}
        self.operations.append((func, args, kwargs, tensors_of(result), shared))
        return result

    @torch.no_grad()
    def undo(self):
        """Recording runs nothing: every tensor from outside is as it was."""
        for tensor, value in self._before.values():
            tensor.copy_(value)
        self._before.clear()

    @torch.no_grad()
    def replay(self):
        for func, args, kwargs, results, shared in self.operations:
            for kept, made in zip(results, tensors_of(func(*args, **kwargs)), strict=True):
                if kept.is_sparse:
                    kept._indices().copy_(made._indices())
                    kept._values().copy_(made._values())
                elif made is not kept and memory(kept) not in shared:
                    kept.copy_(made)


class StubStream:
    """Stands for torch.cuda.Stream; every one that is made is counted."""

    made = 0

    def __init__(self, device=None):
        StubStream.made += 1

    def wait_stream(self, other):
        pass

    def synchronize(self):
        pass


def as_on_a_device(monkeypatch):
    """Take the branches in which no number of a tensor is looked at."""
    monkeypatch.setattr("marginbench.heads.geometry.is_on_host", lambda tensor: False)
    kinds = ["cpu", "meta", "cuda"]
    rmsprop = importlib.import_module("torch.optim.rmsprop")
    monkeypatch.setattr(rmsprop, "_get_capturable_supported_devices", lambda: kinds)


class StubCuda:
    """What marginbench calls of torch.cuda, in its place.

    Attributes:
        current: the current stream.
        modes: the error mode of each capture.
        at_capture: called when a capture begins.
    """

    def __init__(self, monkeypatch, at_capture=lambda: None):
        self.current = self.default = StubStream()
        self.modes = []
        self.at_capture = at_capture
        StubStream.made = 0
        generator = type("Generator", (), {"graphsafe_set_state": lambda *_: None})
        generator.clone_state = lambda _: None
        for name, value in {
            "Stream": StubStream,
            "CUDAGraph": StubGraph,
            "graph": self.graph,
            "stream": self.stream,
            "set_stream": self.set_stream,
            "current_stream": lambda device=None: self.current,
            "synchronize": lambda device=None: None,
            "device": lambda device: contextlib.nullcontext(),
            "current_device": lambda: 0,
            "default_generators": [generator()],
        }.items():
            monkeypatch.setattr(torch.cuda, name, value)
        monkeypatch.setattr("marginbench.training.step.may_capture", lambda experiment: True)
        as_on_a_device(monkeypatch)

    def set_stream(self, stream):
        self.current = stream

    @contextlib.contextmanager
    def stream(self, stream):
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    @contextlib.contextmanager
    def graph(self, graph, stream=None, capture_error_mode="global"):
        """As torch's: after a capture that failed, the stream of the capture stays the current."""
        self.modes.append(capture_error_mode)
        self.at_capture()
        before, self.current = self.current, stream
        try:
            with graph:
                yield
        except RuntimeError:
            raise RuntimeError("CUDA error: operation failed due to a previous error")  # noqa: B904
        finally:
            graph.undo()
        self.current = before
