"""Where a run goes on: everything that changes while training, in one file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from marginbench.errors import DamagedFile
from marginbench.files import write_atomically
from marginbench.training.checkpoint_checks import (
    DATA,
    UnfitCheckpoint,
    check_state,
    first_not_finite,
)
from marginbench.training.checkpoint_digests import DIGESTS, digests
from marginbench.training.checkpoint_files import read_checkpoint_file
from marginbench.training.experiment import Experiment


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
    """Write the model, the optimiser and the progress, whole or not at all.

    With them what using the model needs of the data: the mean image and the names of the classes.

    Weights that are not finite are not written: a run that goes on from the checkpoint before
    diverges in the same way.
    """
    if first_not_finite(experiment) is not None:
        return
    state = {
        "key": key,
        "code": experiment.code.digest,
        "content": experiment.content,
        "backbone": experiment.backbone.state_dict(),
        "head": experiment.head.state_dict(),
        "optimiser": experiment.optimiser.state_dict(),
        "iteration": progress.iteration,
        "history": progress.history,
        "loss_sum": progress.loss_sum,
        "loss_count": progress.loss_count,
        DATA: {
            "mean_image": experiment.mean_image,
            "class_names": list(experiment.data.class_names),
        },
    }
    if experiment.regularisation is not None:
        state["regulariser"] = experiment.regularisation.regulariser.state_dict()
    state[DIGESTS] = digests(state)
    write_atomically(path, lambda file: torch.save(state, file))


def load_checkpoint(path: Path, key: str, experiment: Experiment) -> Progress | None:
    """Put model and optimiser where the checkpoint has them; None without one.

    A checkpoint of other code or other images is none: half a run by each is the run of neither.

    Raises:
        DamagedFile: the file does not read well, or belongs to another cell.
    """
    if not path.exists():
        return None
    state = read_checkpoint_file(path)
    optimiser = experiment.optimiser
    try:
        if state.get("key") == key:
            made = None
            if state.get("code") != experiment.code.digest:
                made = "by other code"
            elif state.get("content") != experiment.content:
                made = "from other images"
            if made is not None:
                print(f"{path} was made {made}; training starts anew", flush=True)
                return None
        check_state(state, key, experiment)
        experiment.backbone.load_state_dict(state["backbone"])
        experiment.head.load_state_dict(state["head"])
        if experiment.regularisation is not None:
            experiment.regularisation.regulariser.load_state_dict(state["regulariser"])
        # The settings are the cell's, whatever the file says of them.
        optimiser.load_state_dict(
            {
                "state": state["optimiser"]["state"],
                "param_groups": optimiser.state_dict()["param_groups"],
            }
        )
    except UnfitCheckpoint as error:
        raise DamagedFile(path, str(error)) from None
    except (RuntimeError, KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise DamagedFile(path, f"it does not fit this cell ({type(error).__name__})") from None
    return Progress(
        state["iteration"],
        state["history"],
        state["loss_sum"].to(experiment.device),
        state["loss_count"],
    )
