"""A cell of each kind that a training step can be of, for tests of the step alone."""

from typing import get_args

import torch

from marginbench.backbones.decoupled import Angular, Magnitude
from marginbench.experiments.cell_fields import Optimiser, Schedule, Training
from marginbench.experiments.cells import make_cell
from marginbench.experiments.grids import component
from marginbench.experiments.resolution import resolve_cell
from marginbench.heads import head_class
from marginbench.regularisers import regulariser_class, regulariser_names
from marginbench.training.checkpoints import Progress
from marginbench.training.experiment import build_experiment
from tests.conftest import built_in_heads

STEPS = 15
NEEDED = {"weighted-softmax": {"class_weights": [1.0 + 0.1 * k for k in range(10)]}}
OPTIMISERS = {
    "adamw": Optimiser(kind="adamw", learning_rate=0.002, head_rate=2.0, clip_norm=1.0),
    "rmsprop": Optimiser(kind="rmsprop", learning_rate=0.001, momentum=0.9, backbone_rate=0.5),
    "rmsprop without momentum": Optimiser(kind="rmsprop", learning_rate=0.001, momentum=0.0),
    "sgd without momentum": Optimiser(learning_rate=0.01, momentum=0.0),
    "sgd with clipping": Optimiser(learning_rate=0.01, clip_norm=0.5),
}


def small(**parameters):
    """The smallest backbone."""
    return component("small", widths=[3], features=3, **parameters)


def step_cell(head="softmax", *, backbone=None, schedule=None, iterations=STEPS, **fields):
    """A cell on the digits; ``head`` is a name or a component."""
    head = component(head, **NEEDED.get(head, {})) if isinstance(head, str) else head
    schedule = schedule or Schedule(
        iterations=iterations,
        batch_size=20,
        sampling="pairs",
        samples_per_class=2,
        evaluations=4,
        augmentation="crop-flip",
        milestones=[13],
    )
    return resolve_cell(
        make_cell(
            data=component("digits"),
            backbone=backbone or small(),
            head=head,
            schedule=schedule,
            optimiser=fields.pop("optimiser", Optimiser(learning_rate=0.02)),
            **fields,
        )
    )


def head_cells():
    """(name, cell) of every head: with all classes, in chunks, and with a sample of them."""
    for name in built_in_heads():
        yield name, step_cell(name)
        if head_class(name).softmax_over_classes:
            given = component(name, **NEEDED.get(name, {}), chunk=3)
            yield f"{name} in chunks", step_cell(given)
            # Of the ten digits, a batch of six leaves four out.
            given = component(name, **NEEDED.get(name, {}), sampled_classes=0.5)
            few = Schedule(
                iterations=STEPS, batch_size=6, evaluations=4, sampling="pairs", samples_per_class=2
            )
            yield f"{name} of a sample", step_cell(given, schedule=few)


def other_cells():
    """(name, cell) of every regulariser, optimiser, backbone and kind of training."""
    for name in regulariser_names():
        # Other tests of this process may have registered some.
        if not regulariser_class(name).__module__.startswith("marginbench.regularisers."):
            continue
        yield f"regulariser {name}", step_cell(regulariser=component(name))
    yield "random projections", step_cell(regulariser=component("comhe", renew_every=3))
    angles = component("comhe", projection="angle-preserving")
    yield "projections that keep angles", step_cell(regulariser=angles)
    for name, optimiser in OPTIMISERS.items():
        yield name, step_cell("l-softmax", optimiser=optimiser)
    for kind in ("cayley", "householder"):
        training = Training(kind="opt", orthogonal_map=kind, block=4, block_steps=6)
        yield f"opt {kind}", step_cell(training=training)
    yield "opt without blocks", step_cell(training=Training(kind="opt", block=0))
    for kind in ("sphere", "decoupled"):
        for angular in get_args(Angular):
            yield f"{kind} {angular}", step_cell(backbone=small(conv=kind, angular=angular))
    for magnitude in get_args(Magnitude):
        name = f"decoupled with magnitude {magnitude}"
        yield name, step_cell(backbone=small(conv="decoupled", magnitude=magnitude))
    learnt = small(conv="decoupled", learn_radius=True, weight_norm="tanh")
    yield "decoupled with a learnt radius", step_cell(backbone=learnt)


def begun(cell, device="cpu"):
    """(experiment, progress) at iteration 0, in training mode."""
    device = torch.device(device)
    experiment = build_experiment(cell, device)
    experiment.training_mode()
    return experiment, Progress(0, loss_sum=torch.zeros((), dtype=torch.float64, device=device))
