"""AdamW, RMSprop, clipping and the courses of the learning rate are torch's; all of it resumes."""

import itertools

import pytest
import torch

from marginbench.errors import UserError
from marginbench.experiments.cell_fields import Optimiser, Schedule
from marginbench.experiments.cells import make_cell
from marginbench.training.adaptive_optimisers import AdamW, RMSprop
from marginbench.training.checkpoints import Progress
from marginbench.training.experiment import build_experiment
from marginbench.training.loop import Interrupted
from marginbench.training.momentum import MomentumSGD
from marginbench.training.optimisers import learning_rate
from marginbench.training.step import TrainingStep
from tests.conftest import files_of, tiny_cell, train_cell
from tests.training.test_momentum import groups_of, parameters, set_gradients

ADAPTIVE = {"squares_decay": 0.98, "epsilon": 1e-7}


def pair(kind, momentum, clip_norm):
    """Ours and torch's, of equal parameters."""
    ours, theirs = parameters(), parameters()
    common = {"learning_rate": 0.1, "momentum": momentum, "clip_norm": clip_norm}
    if kind == "sgd":
        own = MomentumSGD(groups_of(ours), **common)
        reference = torch.optim.SGD(groups_of(theirs), lr=0.1, momentum=momentum, fused=True)
    elif kind == "adamw":
        own = AdamW(groups_of(ours), **common, **ADAPTIVE)
        betas = (momentum, ADAPTIVE["squares_decay"])
        reference = torch.optim.AdamW(
            groups_of(theirs), lr=0.1, betas=betas, eps=ADAPTIVE["epsilon"], fused=True
        )
    else:
        own = RMSprop(groups_of(ours), **common, **ADAPTIVE)
        reference = torch.optim.RMSprop(
            groups_of(theirs),
            lr=0.1,
            alpha=ADAPTIVE["squares_decay"],
            eps=ADAPTIVE["epsilon"],
            momentum=momentum,
        )
    return (own, ours), (reference, theirs)


@pytest.mark.parametrize("clip_norm", [0.0, 0.5])
@pytest.mark.parametrize("as_tensor", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("kind", ["sgd", "adamw", "rmsprop"])
def test_steps_are_those_of_torch_to_the_bit(kind, momentum, as_tensor, clip_norm):
    (own, ours), (reference, theirs) = pair(kind, momentum, clip_norm)
    for step in range(5):
        for optimiser, params in ((own, ours), (reference, theirs)):
            rate = 0.1 / (step + 1)
            for group in optimiser.param_groups:
                group["lr"] = torch.tensor(rate) if as_tensor else rate
            set_gradients(params, step)
            if optimiser is reference and clip_norm:
                torch.nn.utils.clip_grad_norm_(params, clip_norm)
            optimiser.step()
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("kind", ["adamw", "rmsprop"])
def test_a_state_is_torchs_and_is_taken_over(kind):
    (own, ours), (reference, theirs) = pair(kind, 0.9, 0.0)
    for optimiser, params in ((own, ours), (reference, theirs)):
        set_gradients(params, 0)
        optimiser.step()
    state, expected = own.state_dict()["state"], reference.state_dict()["state"]
    assert state.keys() == expected.keys()
    for number, entries in expected.items():
        assert entries.keys() == state[number].keys() == own.state_names
        assert all(torch.equal(entries[name], state[number][name]) for name in entries)
    (again, _), _ = pair(kind, 0.9, 0.0)
    again.param_groups = [
        {**group, "params": other["params"]}
        for group, other in zip(own.param_groups, reference.param_groups, strict=True)
    ]
    again.load_state_dict(reference.state_dict())
    for optimiser, params in ((own, ours), (again, theirs)):
        set_gradients(params, 1)
        optimiser.step()
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def torch_rates(make_scheduler, steps):
    optimiser = torch.optim.SGD([torch.zeros(1)], lr=0.3)
    scheduler = make_scheduler(optimiser)
    rates = []
    for _ in range(steps):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    return rates


def our_rates(**schedule):
    made = Schedule(iterations=20, batch_size=1, **schedule)
    return [learning_rate(i, Optimiser(learning_rate=0.3), made) for i in range(1, 21)]


def test_the_courses_are_those_of_torch():
    schedulers = torch.optim.lr_scheduler
    cosine = torch_rates(lambda o: schedulers.CosineAnnealingLR(o, 20), 20)
    assert our_rates(course="cosine") == pytest.approx(cosine)
    warm = torch_rates(lambda o: schedulers.LinearLR(o, 1 / 5, total_iters=4), 20)
    assert our_rates(warm_up=5) == pytest.approx(warm)
    after = torch_rates(lambda o: schedulers.CosineAnnealingLR(o, 15), 15)
    assert our_rates(course="cosine", warm_up=5) == pytest.approx([*warm[:5], *after])
    stepped = our_rates(milestones=(10,), warm_up=5)
    assert stepped == pytest.approx([*warm[:10], *[0.03] * 10])


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        ({"course": "cosine", "milestones": [5]}, "course = 'cosine' .* milestones"),
        ({"course": "cosine", "plateau_patience": 1}, "course = 'cosine' .* plateau_patience"),
        ({"warm_up": 10}, "warm_up = 10 .* below schedule.iterations = 10"),
    ],
)
def test_courses_that_do_not_go_together_are_refused(schedule, words):
    with pytest.raises(UserError, match=words):
        make_cell(
            data={"name": "digits"},
            backbone={"name": "small"},
            head={"name": "softmax"},
            schedule={"iterations": 10, "batch_size": 4, "evaluations": 2, **schedule},
        )


def cell_with(**optimiser):
    schedule = Schedule(iterations=12, batch_size=32, evaluations=3, course="cosine", warm_up=3)
    return tiny_cell(schedule=schedule).model_copy(update={"optimiser": Optimiser(**optimiser)})


def test_the_heads_own_rate_moves_the_head_alone():
    experiment = build_experiment(cell_with(head_rate=3.0), torch.device("cpu"))
    of_head = [g for g in experiment.optimiser.param_groups if g["multiple"] == 3.0]
    assert [id(p) for g in of_head for p in g["params"]] == [
        id(p) for p in experiment.head.parameters()
    ]
    trained = {}
    for rate in (1.0, 1.5):
        made = build_experiment(cell_with(head_rate=rate), torch.device("cpu"))
        before = [p.detach().clone() for m in (made.backbone, made.head) for p in m.parameters()]
        TrainingStep(made, Progress(0))()
        after = [p.detach() for m in (made.backbone, made.head) for p in m.parameters()]
        trained[rate] = [b - a for a, b in zip(before, after, strict=True)]
    *backbone, head = zip(trained[1.0], trained[1.5], strict=True)
    assert all(torch.equal(a, b) for a, b in backbone)
    assert torch.allclose(1.5 * head[0], head[1], rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "adamw", "learning_rate": 0.01, "head_rate": 2.0, "clip_norm": 1.0},
        {"kind": "rmsprop", "learning_rate": 0.001, "momentum": 0.9},
    ],
)
def test_a_resumed_run_is_an_undisturbed_one(settings, tmp_path):
    cell = cell_with(**settings)
    result, undisturbed = train_cell(cell, tmp_path / "a")
    assert result["outcome"] == "finished"
    steps = itertools.count(1)
    with pytest.raises(Interrupted):
        train_cell(cell, tmp_path / "b", should_stop=lambda: next(steps) == 5)
    _, resumed = train_cell(cell, tmp_path / "b")
    assert files_of(resumed) == files_of(undisturbed)
