"""One-shot classification: which of a few classes, known by one image each, is an image of?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from marginbench.data import OneShotTask
from marginbench.heads.geometry import direction


@dataclass(frozen=True)
class OneShot:
    """Accuracy in [0, 1].

    Attributes:
        accuracy: the mean over the runs, which is how the task is reported.
        runs: of each.
        ways: the number of classes of each run.
    """

    accuracy: float
    runs: tuple[float, ...]
    ways: tuple[int, ...]


@torch.no_grad()
def one_shot(features: Tensor, task: OneShotTask) -> OneShot:
    """Each tested image is of the class whose one image is nearest by the cosine.

    A tie of the right class with a wrong one counts as wrong. Lake et al., Science 2015.

    Args:
        features: (M, D), of the task's images, on the CPU.
        task: which of them are known, and which tested.
    """
    unit = direction(features.double())
    accuracies = []
    for run in task.runs:
        similar = unit[run.tested] @ unit[run.known].T
        answers = run.answers[:, None]
        best_other = similar.scatter(1, answers, -torch.inf).amax(dim=1, keepdim=True)
        accuracies.append(float((similar.gather(1, answers) > best_other).double().mean()))
    return OneShot(
        accuracy=sum(accuracies) / len(accuracies),
        runs=tuple(accuracies),
        ways=tuple(len(run.known) for run in task.runs),
    )
