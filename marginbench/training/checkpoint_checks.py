"""Whether a checkpoint's content can be that of a cell: known before any of it is used."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from marginbench.data.formats.pickle_stand_ins import on_one_line
from marginbench.runs.run_files import HISTORY_FIELDS
from marginbench.training.checkpoint_digests import DIGESTS, first_change
from marginbench.training.experiment import Experiment

FIELDS = {
    *("key", "backbone", "head", "optimiser"),
    *("iteration", "history", "loss_sum", "loss_count"),
}
DATA = "data"
"""The entry with what using the model needs of the data; earlier versions wrote none."""


class UnfitCheckpoint(Exception):
    """A checkpoint that no run of the cell has written."""


def check_state(state: dict[str, Any], key: str, experiment: Experiment) -> None:
    """Make sure that a run of the cell may have written this.

    Everything is as its digests say. Of a checkpoint by an earlier version, which has none, names,
    shapes and types of all tensors are the model's; weights and the optimiser's state are finite;
    the history has a row for each evaluation up to the iteration.

    Args:
        state: the entries by name.
        key: the cell's.
        experiment: of the cell, with a model to compare with.

    Raises:
        UnfitCheckpoint: no run of the cell has; the message names the entry, and what is allowed.
    """
    check_entries(state, key)
    for name, model in _models(experiment):
        if name not in state:
            raise UnfitCheckpoint(f"its entry {name!r} is missing")
        check_model(name, state[name], model)
    _check_optimiser(state["optimiser"], experiment)
    _check_progress(state, experiment)


def check_entries(state: dict[str, Any], key: str) -> None:
    """Make sure that a checkpoint is the cell's, whole, and as it was written.

    Args:
        state: the entries by name. Those of earlier versions have no digests.
        key: the cell's.

    Raises:
        UnfitCheckpoint: it is not; the message names the entry.
    """
    missing = sorted(FIELDS - set(state))
    if "key" in state and state["key"] != key:
        raise UnfitCheckpoint(f"it belongs to the cell {_shown(state['key'])}")
    if missing:
        raise UnfitCheckpoint(f"its entry {missing[0]!r} is missing")
    change = first_change(state) if DIGESTS in state else None
    if change is not None:
        raise UnfitCheckpoint(f"its {on_one_line(change, 200)}")


def first_not_finite(experiment: Experiment) -> str | None:
    """The name of a parameter that, or whose optimiser state, is not finite; None without one."""
    for name, model in _models(experiment):
        for parameter_name, parameter in model.named_parameters():
            state = experiment.optimiser.state.get(parameter, {}).values()
            if not all(_finite(tensor) for tensor in (parameter, *state) if tensor is not None):
                return f"{name}.{parameter_name}"
    return None


def _models(experiment: Experiment) -> Iterator[tuple[str, nn.Module]]:
    yield "backbone", experiment.backbone
    yield "head", experiment.head
    if experiment.regularisation is not None:
        yield "regulariser", experiment.regularisation.regulariser


def check_model(part: str, found: Any, model: nn.Module) -> None:
    """Make sure that a state is of a model: names, shapes, types, parameters that are finite.

    Args:
        part: which model, for messages ("head").
        found: its entry.
        model: to compare with.

    Raises:
        UnfitCheckpoint: it is of another model, or damaged; the message names the tensor.
    """
    wanted = model.state_dict()
    if not isinstance(found, dict):
        raise UnfitCheckpoint(f"its {part!r} is no state of a model")
    unknown = [name for name in found if name not in wanted]
    missing = [name for name in wanted if name not in found]
    if unknown or missing:
        words = f"has no {missing[0]!r}" if missing else f"has a {_shown(unknown[0])} too many"
        raise UnfitCheckpoint(f"its {part!r} {words}")
    for name, own in wanted.items():
        if isinstance(own, Tensor):
            _check_tensor(f"{part}.{name}", found[name], own)
    for name, _ in model.named_parameters():
        # Other names stand in the state where a plug-in's model chooses so.
        if isinstance(found.get(name), Tensor) and not _finite(found[name]):
            raise UnfitCheckpoint(f"its '{part}.{name}' is not finite")


def _check_optimiser(found: Any, experiment: Experiment) -> None:
    parameters = [p for group in experiment.optimiser.param_groups for p in group["params"]]
    state = found.get("state") if isinstance(found, dict) else None
    if not isinstance(state, dict):
        raise UnfitCheckpoint("its 'optimiser' is no state of an optimiser")
    for number, entry in state.items():
        if type(number) is not int or not 0 <= number < len(parameters):
            raise UnfitCheckpoint(
                f"its optimiser has a parameter {_shown(number)}; allowed: 0 to "
                f"{len(parameters) - 1}"
            )
        allowed = experiment.optimiser.state_names
        if not isinstance(entry, dict) or not entry or not set(entry) <= allowed:
            raise UnfitCheckpoint(
                f"its optimiser's parameter {number} has other entries than {_listed(allowed)}"
            )
        for name, value in entry.items():
            where = f"{name.removesuffix('_buffer')} of parameter {number}"
            # None where a parameter has had no gradient.
            if value is not None:
                own = torch.zeros(()) if name == "step" else parameters[number]
                _check_tensor(where, value, own)
                if not _finite(value):
                    raise UnfitCheckpoint(f"its {where!r} is not finite")


def _check_progress(state: dict[str, Any], experiment: Experiment) -> None:
    schedule, iteration = experiment.cell.schedule, state["iteration"]
    if type(iteration) is not int or not 1 <= iteration <= schedule.iterations:
        raise UnfitCheckpoint(
            f"its iteration is {_shown(iteration)}; allowed: a whole number from 1 to "
            f"{schedule.iterations}"
        )
    rows, evaluations = state["history"], sorted(schedule.evaluation_iterations())
    if type(rows) is not list or not all(type(row) is dict for row in rows):
        raise UnfitCheckpoint("its history is no list of rows")
    passed = [evaluation for evaluation in evaluations if evaluation <= iteration]
    if [row.get("iteration") for row in rows] != passed:
        raise UnfitCheckpoint(
            f"its history has other rows than one at each evaluation up to iteration {iteration} "
            f"({len(rows)} rows; expected: {len(passed)})"
        )
    for number, row in enumerate(rows, start=1):
        untested = not len(experiment.test_images)
        _check_row(number, row, untested=untested, is_last=number == len(rows))
    since = iteration - (passed[-1] if passed else 0)
    if type(state["loss_count"]) is not int or state["loss_count"] != since:
        raise UnfitCheckpoint(
            f"its loss_count is {_shown(state['loss_count'])}; expected: {since}, the steps since "
            "the last row"
        )
    _check_tensor("loss_sum", state["loss_sum"], torch.zeros((), dtype=torch.float64))
    if since == 0 and state["loss_sum"] != 0:
        raise UnfitCheckpoint("its loss_sum is of no step, and not 0")


def _check_row(number: int, row: dict[Any, Any], *, untested: bool, is_last: bool) -> None:
    if not set(row) >= HISTORY_FIELDS or not all(type(name) is str for name in row):
        raise UnfitCheckpoint(f"row {number} of its history has not the fields of a row")
    for name, value in row.items():
        low, high = (0, 1) if name in ("train_error", "test_error") else (-math.inf, math.inf)
        fits = type(value) in (int, float)
        if name in ("learning_rate", "train_error", "test_error"):
            fits = fits and math.isfinite(value) and low <= value <= high
        elif name == "loss":
            # A run ends at the first loss that is not finite.
            fits = fits and (is_last or math.isfinite(value))
        if name == "test_error" and untested:
            fits = value is None
        if not fits:
            raise UnfitCheckpoint(
                f"row {number} of its history has {on_one_line(name, 40)} = {_shown(value)}"
            )


def _check_tensor(name: str, found: Any, own: Tensor) -> None:
    if not isinstance(found, Tensor):
        raise UnfitCheckpoint(f"its {name!r} is no tensor")
    if found.shape != own.shape or found.dtype != own.dtype:
        raise UnfitCheckpoint(
            f"its {name!r} is {found.dtype} {tuple(found.shape)}; expected: {own.dtype} "
            f"{tuple(own.shape)}"
        )


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names))


def _finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())


def _shown(value: Any) -> str:
    if isinstance(value, (str, int, float)) or value is None:
        return on_one_line(str(value), 40)
    return f"a {type(value).__name__}"
