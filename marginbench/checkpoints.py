"""Where a run goes on: everything that changes while training, in one file."""

from __future__ import annotations

import pickle
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from marginbench.atomic_files import write_atomically
from marginbench.errors import DamagedFile
from marginbench.experiment import Experiment


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        iteration: steps done.
        history: the rows recorded.
        loss_sum: of the steps since the last row, a float64 scalar on the device.
        loss_count: of these steps.
    """

    iteration: int
    history: list[dict[str, Any]] = field(default_factory=list)
    loss_sum: torch.Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))
    loss_count: int = 0


def save_checkpoint(path: Path, key: str, experiment: Experiment, progress: Progress) -> None:
    """Write the model, the optimiser, torch's generators and the progress, whole or not at all."""
    state = {
        "key": key,
        "backbone": experiment.backbone.state_dict(),
        "head": experiment.head.state_dict(),
        "optimiser": experiment.optimiser.state_dict(),
        "cpu_generator": torch.get_rng_state(),
        "cuda_generator": (
            torch.cuda.get_rng_state(experiment.device)
            if experiment.device.type == "cuda"
            else None
        ),
        "iteration": progress.iteration,
        "history": progress.history,
        "loss_sum": progress.loss_sum,
        "loss_count": progress.loss_count,
    }
    write_atomically(path, lambda file: torch.save(state, file))


def load_checkpoint(path: Path, key: str, experiment: Experiment) -> Progress | None:
    """Put model, optimiser and generators where the checkpoint has them; None without one.

    Raises:
        DamagedFile: the file does not read well, or belongs to another cell.
    """
    if not path.exists():
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
        if broken is not None:
            raise DamagedFile(path, f"its part {broken!r} fails its checksum")
        state = torch.load(path, map_location="cpu", weights_only=True)
        if state["key"] != key:
            raise DamagedFile(path, f"it belongs to the cell {state['key']!r}")
        experiment.backbone.load_state_dict(state["backbone"])
        experiment.head.load_state_dict(state["head"])
        experiment.optimiser.load_state_dict(state["optimiser"])
        torch.set_rng_state(state["cpu_generator"])
        if experiment.device.type == "cuda" and state["cuda_generator"] is not None:
            torch.cuda.set_rng_state(state["cuda_generator"], experiment.device)
        return Progress(
            state["iteration"],
            state["history"],
            state["loss_sum"].to(experiment.device),
            state["loss_count"],
        )
    except (zipfile.BadZipFile, pickle.UnpicklingError, EOFError) as error:
        raise DamagedFile(path, f"it cannot be read ({error})") from None
    except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else "no detail"
        raise DamagedFile(path, f"it does not fit this cell ({first_line})") from None
