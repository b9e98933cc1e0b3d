"""The training loop: one for every head."""

from __future__ import annotations

import platform
import socket
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import marginbench
from marginbench.data import remarks
from marginbench.errors import UserError
from marginbench.evaluation.final import final_evaluation, recorded_retrieval
from marginbench.evaluation.layer_energies import layer_energies
from marginbench.evaluation.looks import error_rates
from marginbench.experiments.cells import FUSED, Cell
from marginbench.files import write_atomically
from marginbench.runs.deciding_code import read_sources
from marginbench.runs.lease import Lease
from marginbench.runs.run_folder import RunFolder
from marginbench.text import printable_line
from marginbench.training.checkpoints import Progress, load_checkpoint, save_checkpoint
from marginbench.training.devices import (
    device_name,
    gpu_software,
    make_deterministic,
    processor_name,
)
from marginbench.training.divergence import divergence
from marginbench.training.experiment import Experiment, build_experiment
from marginbench.training.native_library import SLOWER, compile_layers
from marginbench.training.optimisers import count_rate_cuts, learning_rate
from marginbench.training.ranks import Ranks
from marginbench.training.step import TrainingStep

CHECKPOINT_SECONDS = 60.0
NAMED_CLASSES = 1_000
"""Classes named in the result at most: no figure could show more, and faces have thousands."""


class Interrupted(Exception):
    """The run was asked to stop; its checkpoint is written."""


def train(
    cell: Cell,
    folder: RunFolder,
    lease: Lease | None,
    *,
    device: torch.device,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    should_stop: Callable[[], bool] = lambda: False,
    ranks: Ranks | None = None,
    begun: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Train a cell from where its folder stands to its end, and write its result.

    Args:
        cell: resolved.
        folder: the cell's; its checkpoint, if any, is gone on from, unless other code made it.
        lease: of that folder, held; None on a rank other than 0, which writes nothing.
        device: where to train.
        checkpoint_seconds: a checkpoint is written that often, and when asked to stop.
        should_stop: asked after every step; with several ranks, one that says yes stops all.
        ranks: the processes that train the cell together, connected; each of them calls this
            function. None for this one alone.
        begun: called before the first step; an error before that is raised on every rank.

    Returns:
        The result, as written.

    Raises:
        UserError: data or parameters that are not allowed, a damaged checkpoint, a lost lease.
        Interrupted: ``should_stop`` answered yes.
    """
    read_sources()
    make_deterministic(device)
    started, processor_started = time.time(), time.process_time()
    ranks = ranks or Ranks()
    experiment, progress = _start(cell, folder, device, ranks)
    begun()
    if lease is not None:
        folder.write_history(progress.history)
    resumed_at = progress.iteration
    if cell.execution == FUSED and device.type == "cpu" and (why := compile_layers()[1]):
        print(SLOWER.format(reason=why))
    print(f"training from iteration {resumed_at} of {cell.schedule.iterations}", flush=True)
    schedule = cell.schedule
    evaluations = schedule.evaluation_iterations()

    def save() -> None:
        with experiment.whole_classifier():
            if lease is not None:
                lease.check()
                save_checkpoint(folder.checkpoint, folder.key, experiment, progress)

    reason = _divergence(experiment, progress) if progress.history else None
    last_save = time.monotonic()
    experiment.training_mode()
    step = TrainingStep(experiment, progress)
    while progress.iteration < schedule.iterations and reason is None:
        step()
        if progress.iteration in evaluations:
            _record(experiment, progress)
            experiment.training_mode()
            step.follow_plateau()
            if lease is not None:
                lease.check()
                folder.write_history(progress.history)
            reason = _divergence(experiment, progress)
        if lease is not None:
            lease.set_progress(
                iteration=progress.iteration,
                of=schedule.iterations,
                started=started,
                resumed_at=resumed_at,
            )
        if ranks.any_of(should_stop()):
            save()
            raise Interrupted
        due = time.monotonic() - last_save >= checkpoint_seconds
        # All ranks have a part in saving a classifier that is cut, each by a clock of its own.
        if due if experiment.sharded is None else ranks.any_of(due):
            save()
            last_save = time.monotonic()
    save()
    result = None
    with experiment.whole_classifier():
        if lease is not None:
            result = _finish(
                experiment, progress, reason, folder, lease, started, processor_started, resumed_at
            )
    return ranks.share(result)


def _start(
    cell: Cell, folder: RunFolder, device: torch.device, ranks: Ranks
) -> tuple[Experiment, Progress]:
    """Build everything, from the checkpoint on where there is one.

    The ranks wait for one another here: what fails on one, none begins.
    """

    def build() -> tuple[Experiment, Progress]:
        experiment = build_experiment(cell, device, ranks)
        progress = load_checkpoint(folder.checkpoint, folder.key, experiment)
        if progress is None:
            progress = Progress(0, loss_sum=torch.zeros((), dtype=torch.float64, device=device))
        return experiment, progress

    experiment, progress = ranks.all_or_none(build)
    starts = ranks.gather(progress.iteration)
    if len(set(starts)) > 1:
        raise UserError(
            f"the processes of the cell begin at different iterations, {starts}: they do not see "
            "the same run folder"
        )
    ranks.all_or_none(experiment.connect_ranks)
    return experiment, progress


def _record(experiment: Experiment, progress: Progress) -> None:
    """Add a row to the history: the mean loss since the last one, and the errors now."""
    cell = experiment.cell
    cuts = count_rate_cuts([past["loss"] for past in progress.history], cell.schedule)
    row: dict[str, Any] = {
        "iteration": progress.iteration,
        "learning_rate": learning_rate(progress.iteration, cell.optimiser, cell.schedule, cuts),
        "loss": float(progress.loss_sum) / progress.loss_count,
    }
    with experiment.whole_classifier():
        if experiment.ranks.leads:
            row |= error_rates(experiment)
            row |= recorded_retrieval(experiment)
            row |= {name: float(value) for name, value in experiment.head.diagnostics().items()}
            row |= layer_energies(experiment.backbone, experiment.head)
            if experiment.regularisation is not None:
                row["regularisation"] = experiment.regularisation.value_now()
            if experiment.rotations is not None:
                row["orthogonality_error"] = experiment.rotations.error()
    progress.history.append(experiment.ranks.share(row))
    progress.loss_sum.zero_()
    progress.loss_count = 0


def _divergence(experiment: Experiment, progress: Progress) -> str | None:
    schedule = experiment.cell.schedule
    labels = experiment.data.train_labels
    if schedule.sampling != "shuffled":
        labels = labels[experiment.batches.flatten().cpu().long()]
    return divergence(progress.history, labels, schedule.iterations)


def _finish(
    experiment: Experiment,
    progress: Progress,
    reason: str | None,
    folder: RunFolder,
    lease: Lease,
    started: float,
    processor_started: float,
    resumed_at: int,
) -> dict[str, Any]:
    last = progress.history[-1]
    numbers, arrays = final_evaluation(experiment) if reason is None else ({}, {})
    result = {
        "key": folder.key,
        "outcome": "finished" if reason is None else "diverged",
        "reason": reason or "",
        "iteration": progress.iteration,
        "train_error": last["train_error"],
        "test_error": last["test_error"],
        **numbers,
        "tested_by_class_means": experiment.head.tested_by_class_means,
        "feature_dimension": experiment.backbone.out_features,
        "num_classes": experiment.data.num_classes,
        "class_names": [printable_line(n) for n in experiment.data.class_names[:NAMED_CLASSES]],
        "train_images": len(experiment.train_labels),
        "test_images": len(experiment.test_labels),
        "remarks": remarks(experiment.cell.data, experiment.data),
        "device": device_name(experiment.device, experiment.ranks.size),
        "code": experiment.code.digest,
        "content": experiment.content,
        "libraries": dict(experiment.code.libraries),
    }
    lease.check()
    folder.write_history(progress.history)
    write_atomically(folder.evaluation, lambda file: np.savez_compressed(file, **arrays))  # type: ignore[arg-type]
    folder.write_environment(
        {
            "marginbench": marginbench.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "host": socket.gethostname(),
            "threads": torch.get_num_threads(),
            # One width of vectors rounds otherwise than another; and matrix products are made
            # otherwise on one maker's processors than on another's.
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "processor": processor_name(),
            "gpu_software": gpu_software(experiment.device),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "code": experiment.code.record(),
            "trained_from": resumed_at,
            "seconds_of_last_attempt": round(time.time() - started, 3),
            "processor_seconds_of_last_attempt": round(time.process_time() - processor_started, 3),
        }
    )
    folder.write_result(result)
    return result
