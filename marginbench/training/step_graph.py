"""A step's computation as a CUDA graph: recorded once, then replayed, and all around it."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable

import torch
from torch import nn

from marginbench.runs.environment import GRAPH_VARIABLE
from marginbench.training.experiment import Experiment
from marginbench.training.step_operations import (
    Operation,
    StepOperations,
    first_difference,
    plain_attributes,
)

WARM_UP_STEPS = 11
WATCHED_STEPS = 3
"""The last steps of the warm-up, whose operations are recorded and compared."""


def may_capture(experiment: Experiment) -> bool:
    """Whether the steps of an experiment may become a CUDA graph."""
    return (
        experiment.device.type == "cuda"
        and experiment.ranks.size == 1
        and os.environ.get(GRAPH_VARIABLE) != "0"
    )


class StepGraph:
    """Computes steps: :data:`WARM_UP_STEPS` one by one, then by replaying a CUDA graph of one.

    A graph repeats the kernels that it recorded, with the numbers that Python gave them then. So
    the warm-up watches the steps: if one waits for the device, or if Python changes a number, an
    attribute or a tensor from one step to the next, the part of the cell that does so is named
    in a warning and the cell is trained step by step.

    Args:
        experiment: on a CUDA device.
        compute: a step as the device sees it.
        part: says what of the cell ``compute`` is at, as a user names it.
    """

    def __init__(
        self, experiment: Experiment, compute: Callable[[], None], part: Callable[[], str]
    ) -> None:
        self._experiment = experiment
        self._compute = compute
        self._part = part
        # One stream for warm-up and capture: memory that is reserved on one is free on no other.
        self._side = torch.cuda.Stream(experiment.device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._steps = 0
        self._last: list[Operation] = []
        self._obstacle = ""
        self._attributes = self._plain_attributes()

    @property
    def is_captured(self) -> bool:
        """Whether steps are replayed."""
        return self._graph is not None

    def prepare(self) -> None:
        """Capture the step when it is time; to be called before a step's batch is loaded.

        Nothing may call CUDA meanwhile: no batch is being read, and none is until the next load.
        """
        if self._steps != WARM_UP_STEPS:
            return
        self._obstacle = self._obstacle or self._changed_attribute()
        if not self._obstacle:
            self._capture()
        if self._obstacle:
            warnings.warn(
                f"{self._obstacle}; the cell is trained step by step, only slower", stacklevel=3
            )

    def __call__(self) -> None:
        """One step."""
        self._steps += 1
        if self._graph is not None:
            self._graph.replay()
        elif self._obstacle and self._steps > WARM_UP_STEPS:
            self._compute()
        else:
            self._warm_up()

    def _warm_up(self) -> None:
        """A step on the side stream, as capture wants it, compared with the one before it."""
        device = self._experiment.device
        self._side.wait_stream(torch.cuda.current_stream(device))
        watched = self._steps > WARM_UP_STEPS - WATCHED_STEPS
        seen = StepOperations(self._part)
        with torch.cuda.stream(self._side), seen if watched else contextlib.nullcontext():
            self._compute()
        torch.cuda.current_stream(device).wait_stream(self._side)
        if not self._obstacle and seen.waiting:
            part, name, _ = seen.waiting[0]
            self._obstacle = f"{part} waits for the device ({name})"
        if not self._obstacle and self._last:
            found = first_difference(self._last, seen.operations)
            if found is not None:
                self._obstacle = (
                    f"{found.part} changes in Python from step to step ({found.name}), which a "
                    "CUDA graph does not see; what changes belongs in a buffer, changed in place"
                )
        self._last = seen.operations

    def _capture(self) -> None:
        """Record the step without running it."""
        experiment, device = self._experiment, self._experiment.device
        self._last = []
        experiment.optimiser.zero_grad()
        if experiment.stream is not None:
            experiment.stream.settle()
            assert not experiment.stream.is_reading
        torch.cuda.synchronize(device)
        before = torch.cuda.current_stream(device)
        graph = torch.cuda.CUDAGraph()
        try:
            with (
                torch.cuda.device(device),
                # Of all threads this one alone has to keep to what a capture allows.
                torch.cuda.graph(graph, stream=self._side, capture_error_mode="thread_local"),
            ):
                self._compute()
        except RuntimeError as error:
            first_line = str(_first_cause(error)).strip().splitlines()[0]
            self._obstacle = f"{self._part()} cannot be captured as a CUDA graph ({first_line})"
            # torch leaves the stream of a capture that failed the current one.
            torch.cuda.set_stream(before)
            torch.cuda.synchronize(device)
            _leave_capture_mode(device)
            experiment.optimiser.zero_grad()
        else:
            self._graph = graph

    def _plain_attributes(self) -> dict[str, str]:
        experiment, cell = self._experiment, self._experiment.cell
        parts: list[tuple[str, nn.Module]] = [
            (f"backbone {cell.backbone.name!r}", experiment.backbone),
            (f"head {cell.head.name!r}", experiment.head),
        ]
        if experiment.regularisation is not None and cell.regulariser is not None:
            name = f"regulariser {cell.regulariser.name!r}"
            parts.append((name, experiment.regularisation.regulariser))
        return {
            f"{part}: {path}": text
            for part, module in parts
            for path, text in plain_attributes(module).items()
        }

    def _changed_attribute(self) -> str:
        now = self._plain_attributes()
        for name in {**self._attributes, **now}:
            if self._attributes.get(name) != now.get(name):
                return (
                    f"{name} changes in Python while it trains, which a CUDA graph does not see "
                    "and no checkpoint keeps; it belongs in a buffer, changed in place"
                )
        return ""


def _first_cause(error: BaseException) -> BaseException:
    """What broke a capture; ending the capture fails as well, and says only that."""
    while error.__context__ is not None:
        error = error.__context__
    return error


def _leave_capture_mode(device: torch.device) -> None:
    """Let the device's generator draw again after a capture that failed.

    In torch 2.4, say, its state stays in capture mode, where dropout outside a graph raises
    "Offset increment outside graph capture encountered unexpectedly"; a copy's does not.
    """
    with torch.cuda.device(device):
        generator = torch.cuda.default_generators[torch.cuda.current_device()]
    generator.graphsafe_set_state(generator.clone_state())
